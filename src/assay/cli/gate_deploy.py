"""`assay gate deploy`: may this text replace that one? From recorded runs, or by running an agent now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.gate import JsonCommand, Refused, gate
from assay.core.artifact_text import TextKind
from assay.core.verdict import Verdict
from assay.core.vocabulary import Status

if TYPE_CHECKING:
    from assay.core.artifact_text import TextArtifact
    from assay.core.suite import Suite
    from assay.flows.evolve import EvolveSpec
    from assay.gates.deploy import DeployPolicy

NAME = "gate-deploy"


@gate.command(cls=JsonCommand, context_settings={"ignore_unknown_options": False})
@click.option("--baseline", required=True, type=click.Path(path_type=Path), help="The text as it stands.")
@click.option(
    "--candidate", required=True, type=click.Path(path_type=Path), help="The text that would replace it."
)
@click.option(
    "--suite", "suite_path", required=True, type=click.Path(path_type=Path), help="JSONL file or folder."
)
@click.option(
    "--kind",
    type=click.Choice([k.value for k in TextKind]),
    help="What the text is part of; else told by it.",
)
@click.option("--name", default="", help="Of the tool or region.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    help="Recorded runs (JSON lines or CSV: task, arm, rep, outcome) instead of running an agent.",
)
@click.option(
    "--preset", default="", help="A known agent: claude, codex, gemini, opencode, aider, mini_swe, prompt."
)
@click.option("--model", default="", help="Passed on to the agent.")
@click.option("--env", multiple=True, metavar="NAME", help="Environment variable that the agent may see.")
@click.option("--timeout-s", type=float, default=300.0, show_default=True, help="Of one run.")
@click.option("--parallel", type=int, default=1, show_default=True, help="Runs at the same time.")
@click.option(
    "--policy",
    "fields",
    multiple=True,
    metavar="KEY=VALUE",
    help="Field of the rule: alpha=0.05, looks=[3,6,9], rules=seed.",
)
@click.option("--force", is_flag=True, help="Go on where the preflight says that it is not worth it.")
@click.option("--json", "as_json_", is_flag=True, help="Always so: stdout is one JSON verdict.")
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
def deploy(
    baseline: Path, candidate: Path, suite_path: Path, **options: Any
) -> tuple[Verdict, dict[str, Any]]:
    """Does the candidate text really do better? With --preset or `-- COMMAND` it is a study, which can be resumed."""
    from assay.gates.text import judge_text
    from assay.readers.suites import read_suite
    from assay.readers.texts import read_candidate, read_text

    kind = TextKind(options["kind"]) if options["kind"] else None
    before = read_text(baseline, kind, options["name"])
    suite = read_suite(suite_path)
    policy = _policy(options["fields"])
    inputs: dict[str, Any] = {
        "inputs": {"baseline": str(baseline), "candidate": str(candidate), "suite": str(suite_path)}
    }
    after = read_candidate(candidate, before)
    static = judge_text(before, after)
    if static.status is not Status.PASS:
        return static, inputs
    if options["runs"] is not None:
        return _recorded(before, after, suite, policy, options["runs"]), inputs
    if not options["command"] and not options["preset"]:
        raise Refused("give --runs FILE, --preset NAME, or -- COMMAND")
    spec = _spec(baseline, candidate, suite_path, policy, options)
    verdict, study = _run(spec)
    return verdict, {**inputs, "study": study}


def _policy(fields: tuple[str, ...]) -> DeployPolicy:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from assay.gates.deploy import DeployPolicy
    from assay.registry import validated

    values: dict[str, Any] = {}
    for item in fields:
        key, equals, text = item.partition("=")
        if not equals:
            raise Refused(f"--policy {item!r} is not KEY=VALUE")
        try:
            values[key] = YAML(typ="safe").load(text)
        except YAMLError as error:
            raise Refused(f"--policy {key}: {text!r} is no YAML value") from error
    return validated(DeployPolicy, values, "--policy")


def _recorded(before: TextArtifact, after: str, suite: Suite, policy: DeployPolicy, path: Path) -> Verdict:
    """The verdict on runs of somebody else: their arms are taken for the two texts."""
    from assay.core.agent import BASELINE, CANDIDATE
    from assay.gates.deploy import DeployGate
    from assay.readers.agent_runs import read_agent_runs
    from assay.runtime.staging import StagedSource

    runs = read_agent_runs(path, suite)
    if not policy.require_canary and not any(r.task in runs.canaries for r in runs.runs):
        tasks = tuple(t for t in runs.tasks if t not in runs.canaries)
        runs = runs.model_copy(update={"tasks": tasks, "canaries": (), "canary_repeats": None})
    texts, source = {BASELINE: before.text, CANDIDATE: after}, StagedSource(before)
    update = {
        "text_chars": {arm: len(text) for arm, text in texts.items()},
        "facts": {**runs.facts, "file_chars": {arm: source.chars(text) for arm, text in texts.items()}},
    }
    return DeployGate(policy).judge({"candidate.runs": runs.model_copy(update=update)})


def _spec(
    baseline: Path, candidate: Path, suite: Path, policy: DeployPolicy, options: dict[str, Any]
) -> EvolveSpec:
    from assay.cli.evolve_spec import resolved
    from assay.flows.evolve import EvolveSpec
    from assay.registry import validated

    agent = {
        "preset": options["preset"] or "command",
        "command": list(options["command"]),
        "model": options["model"],
        "env": list(options["env"]),
        "timeout_s": options["timeout_s"],
        "parallel": options["parallel"],
    }
    values = {
        "schema": "evolve/1",
        "name": NAME,
        "text": {"path": str(baseline), "kind": options["kind"], "name": options["name"]},
        "suite": str(suite),
        "agent": agent,
        "candidates": [str(candidate)],
        "deploy": policy.to_json(),
        "preflight": {"force": options["force"]},
    }
    return resolved(validated(EvolveSpec, values, "options"), Path.cwd())


def _run(spec: EvolveSpec) -> tuple[Verdict, str]:
    from assay.cli.opening import new_id, require_canary
    from assay.cli.study import execute
    from assay.flows import evolve
    from assay.ledger.home import Home, find_home
    from assay.ledger.projections import histories
    from assay.runtime.files import artifact

    require_canary(spec)
    home = Home(find_home(), create=True)
    with home.writing():
        name = new_id(spec.name, histories(home.ledger.read()))
        study = evolve.plan(spec, artifact(Path(spec.text.path)), name)
        click.echo(f"study {name}; `assay resume {name}` goes on with it", err=True)
        _, history = execute(home, study)
    trial = next(iter(history.trials.values()))
    line = trial.gates.get("deploy")
    if line is None or not line.verdict:  # it ended before: what blocked it is the answer
        line = next(g for g in reversed(trial.gates.values()) if g.verdict)
    return Verdict.from_json(json.loads(json.dumps(home.store.get(line.verdict)))), name
