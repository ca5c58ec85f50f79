"""`assay gate`: one gate on files, for CI and other harnesses. Whatever happens, stdout is one JSON verdict."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from assay.core.errors import AssayError
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status

if TYPE_CHECKING:
    from assay.core.results import Results
    from assay.gates.results import ResultsGate

EXIT = {Status.PASS: 0, Status.FAIL: 1, Status.INCONCLUSIVE: 4, Status.ERROR: 5}
_ROWS = {".eval", ".jsonl", ".csv", ".xml", ".yml", ".yaml"}
"""Files that hold rows or a run: never `{task: score}`."""
SIZE_LIMIT_BYTES = 256 << 20
ELSEWHERE: Mapping[str, str] = {"deploy": "assay.cli.gate_deploy"}
"""Gate → module that adds its command."""


class Refused(click.ClickException):
    """An input or option that cannot be used; becomes a JSON verdict."""


class JsonCommand(click.Command):
    """A command of which also a usage error is a JSON verdict on stdout."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """Parse the options; see `click.Command.make_context`."""
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except (click.ClickException, ValueError) as error:  # ValueError: a path with a zero byte
            said = error.format_message() if isinstance(error, click.ClickException) else str(error)
            _refuse(info_name or "gate", said)
            raise click.exceptions.Exit(2) from error

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; see `click.Command.invoke`."""
        try:
            verdict, more = super().invoke(ctx)
        except click.ClickException as error:
            return _refuse(self.name or "gate", error.format_message())
        except (AssayError, ValidationError) as error:
            text = str(error) if isinstance(error, AssayError) else _first(error)
            return _refuse(self.name or "gate", text)
        except (OSError, ValueError, RecursionError) as error:  # a path that no file can have, and the like
            return _refuse(self.name or "gate", f"{type(error).__name__}: {error}")
        click.echo(json.dumps(as_json(verdict, **more), indent=2))
        return EXIT[verdict.status]


def as_json(verdict: Verdict, **more: Any) -> dict[str, Any]:
    """A verdict for scripts: `schema: verdict/1`."""
    value = verdict.to_json()
    extra = value.pop("extra")
    return {
        "schema": "verdict/1",
        "gate": value.pop("gate"),
        "status": value.pop("status"),
        "pass": verdict.passed,
        "failure_class": value.pop("failure_class"),
        "decision": value.pop("outcome"),
        **value,
        **extra,
        **more,
    }


def _refuse(gate: str, why: str) -> int:
    verdict = Verdict(
        gate=gate,
        status=Status.ERROR,
        failure_class=FailureClass.USER_CONFIG_ERROR,
        outcome=Outcome.ANOMALOUS,
        detail=" ".join(why.split()),
        reasons=(Reason(text=" ".join(why.split()), ok=False),),
        provenance=Provenance.SELF_REPORTED,
    )
    click.echo(json.dumps(as_json(verdict), indent=2))
    return 2


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every gate that reads results."""
    for option in (
        click.option(
            "--metric-table", type=click.Path(path_type=Path), help="YAML laid over Assay's metric table."
        ),
        click.option("--harness", help="Which harness wrote the files; by default found from their content."),
        click.option(
            "--expect", multiple=True, metavar="TASK=N", help="Samples that a task must have scored."
        ),
    ):
        command = option(command)
    return command


def _read(paths: Mapping[str, Path], options: Mapping[str, Any]) -> tuple[dict[str, Results], ResultsGate]:
    """Results by role, and the gate that they must pass."""
    from assay.gates.results import ResultsGate, ResultsPolicy
    from assay.readers.results import read_results

    expected = dict(_expectation(item) for item in options["expect"])
    found = {
        role: read_results(
            path,
            subject=role.partition(".")[0],
            harness=options["harness"],
            expected=expected,
            metric_table=options["metric_table"],
        )
        for role, path in paths.items()
    }
    return found, ResultsGate(ResultsPolicy(expected=expected))


class Gates(click.Group):
    """The gates; one that may run agents has a module of its own, loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All gates."""
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The gate's command."""
        if cmd_name in ELSEWHERE:
            importlib.import_module(ELSEWHERE[cmd_name])
        return super().get_command(ctx, cmd_name)


@click.group(cls=Gates)
def gate() -> None:
    """Ask one gate about files. stdout is one JSON verdict; exit 0 pass, 1 fail, 2 unreadable, 4 open, 5 anomalous."""


@gate.command(cls=JsonCommand)
@click.argument("candidate", metavar="[DIR]", required=False, type=click.Path(path_type=Path, readable=False))
@click.option(
    "--source",
    type=click.Path(path_type=Path, readable=False),
    help="The checkpoint that it was made from.",
)
@click.option("--recipe", help="What it was meant to be: nvfp4, fp8, W4A16, Q4_0, ...")
@click.option(
    "--recipe-table", type=click.Path(path_type=Path), help="YAML with recipes of your own beside Assay's."
)
@click.option("--engine", help="Serve kind that will load it: transformers, vllm, llama_cpp, ...")
@click.option(
    "--summary", type=click.Path(path_type=Path), help="A summary that somebody wrote, instead of files."
)
def checkpoint(
    candidate: Path | None,
    source: Path | None,
    recipe: str | None,
    recipe_table: Path | None,
    engine: str | None,
    summary: Path | None,
) -> tuple[Verdict, dict[str, Any]]:
    """Is this checkpoint what it claims to be?"""
    from assay.cli.inspect import recipes_of
    from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy, judge_summary
    from assay.readers.checkpoint import read_checkpoint

    if summary is not None:
        return judge_summary(_json_file(summary), recipe), {"inputs": {"summary": str(summary)}}
    if candidate is None or source is None:
        raise Refused("give DIR and --source DIR, or --summary FILE")
    policy = CheckpointPolicy(recipe=recipe, engine=engine, recipes=recipes_of(recipe_table))
    evidence = {
        "source.checkpoint": read_checkpoint(source, subject="source"),
        "candidate.checkpoint": read_checkpoint(candidate, subject="candidate", source=source),
    }
    verdict = CheckpointGate(policy).judge(evidence)
    return verdict, {"inputs": {"candidate": str(candidate), "source": str(source)}}


@gate.command(cls=JsonCommand)
@click.argument("path", metavar="[PATH]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--run", "run_file", type=click.Path(path_type=Path), help="A run summary, instead of result files."
)
@_reading
def results(path: Path | None, run_file: Path | None, **reading: Any) -> tuple[Verdict, dict[str, Any]]:
    """Is this evaluation complete and valid?"""
    from assay.gates.results import judge_run_summary

    if run_file is not None:
        return judge_run_summary(_json_file(run_file)), {"inputs": {"run": str(run_file)}}
    if path is None:
        raise Refused("give PATH, or --run FILE")
    found, gate_ = _read({"results": path}, reading)
    return gate_.judge(found), {"inputs": {"results": str(path)}}


@gate.command(cls=JsonCommand)
@click.option(
    "--baseline", required=True, type=click.Path(path_type=Path), help="{task: score} file or results."
)
@click.option(
    "--candidate", required=True, type=click.Path(path_type=Path), help="{task: score} file or results."
)
@click.option(
    "--threshold", help="Largest tolerated drop as a fraction of the scale; `null` = none was given."
)
@click.option("--margin", type=float, help="The same for policy `paired`.")
@click.option("--relative", is_flag=True, help="The threshold is a fraction of the baseline's score.")
@click.option("--scales", help="JSON {task: top of its scale}, or a file with it.")
@click.option("--ranges", help="JSON {task: [lowest, highest]}, or a file with it.")
@click.option("--directions", help='JSON {task: "higher" | "lower"}, or a file with it.')
@click.option(
    "--policy", type=click.Choice(["point", "paired"]), help="Default: point for scores, paired for rows."
)
@_reading
def compare(
    baseline: Path, candidate: Path, policy: str | None, **options: Any
) -> tuple[Verdict, dict[str, Any]]:
    """Is the candidate no worse than the baseline?"""
    inputs = {"inputs": {"baseline": str(baseline), "candidate": str(candidate)}}
    if baseline.is_file() and candidate.is_file() and _is_scores(baseline) and _is_scores(candidate):
        if policy == "paired":
            raise Refused(
                "two score files hold no samples to pair: use --policy point, or give result folders"
            )
        return _compare_scores(baseline, candidate, options), inputs
    return _compare_results(baseline, candidate, policy or "paired", options), inputs


@gate.command(cls=JsonCommand)
@click.argument("experiment", metavar="EXP|DIR")
@click.option(
    "--root", type=click.Path(path_type=Path), help="Folder of the experiments; by default found upward."
)
@click.option(
    "--advance-tier",
    type=click.Choice(["floor", "goal", "stretch"]),
    help="Lowest tier that may advance (floor).",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["restore", "digest", "none"]),
    help="How the newest and best checkpoint must have been verified (digest).",
)
@click.option("--accept-stopped", is_flag=True, help="A training that was asked to stop counts as ended.")
@click.option("--no-hypothesis", is_flag=True, help="No hypothesis is asked for.")
@click.option(
    "--require-watched", is_flag=True, help="A training that no checker watched to its end does not pass."
)
@click.option(
    "--iterations-left", type=int, help="Experiments that the budget still has; 0 asks for a person."
)
@click.option("--json", "as_json_", is_flag=True, help="Always so: stdout is one JSON verdict.")
def training(experiment: str, root: Path | None, **options: Any) -> tuple[Verdict, dict[str, Any]]:
    """Did this experiment train to its end, soundly and well enough? Changes nothing."""
    from assay.cli.experiment import place_of
    from assay.gates.training import TrainingGate, TrainingPolicy
    from assay.readers.training import read_any

    given = {
        k: options[k] for k in ("advance_tier", "checkpoint", "iterations_left") if options[k] is not None
    }
    policy = TrainingPolicy.model_validate(
        {
            **given,
            "accept_stopped": options["accept_stopped"],
            "require_hypothesis": not options["no_hypothesis"],
            "require_watched": options["require_watched"],
        }
    )
    folder = place_of(experiment, root)
    verdict = TrainingGate(policy).judge({"experiment": read_any(folder, digests=True)})
    return verdict, {"inputs": {"experiment": str(folder)}}


def _compare_scores(baseline: Path, candidate: Path, options: Mapping[str, Any]) -> Verdict:
    from assay.gates.compare import ComparePolicy, judge_scores

    return judge_scores(
        _json_file(baseline), _json_file(candidate), ComparePolicy(**_policy("point", options))
    )


def _compare_results(baseline: Path, candidate: Path, policy: str, options: Mapping[str, Any]) -> Verdict:
    """Results gate on both sides, comparability, then compare: nothing is compared past a failed gate."""
    from assay.gates.comparability import ComparabilityGate, ComparabilityPolicy
    from assay.gates.compare import CompareGate, ComparePolicy

    made = ComparePolicy(**_policy(policy, options))
    evidence, gate_ = _read({"baseline.results": baseline, "candidate.results": candidate}, options)
    for side in evidence.values():
        verdict = gate_.judge({"results": side})
        if not verdict.passed:
            return verdict
    if policy == "paired":
        verdict = ComparabilityGate(ComparabilityPolicy()).judge(evidence)
        if not verdict.passed:
            return verdict
    verdict = CompareGate(made).judge(evidence)
    given = options["margin"] is not None or made.threshold is not None
    return verdict if given or verdict.status is Status.ERROR else _undecided(verdict)


def _undecided(verdict: Verdict) -> Verdict:
    """What `--threshold null` asks for: the figures, and no word that nobody gave a limit for."""
    detail = "no threshold given: nothing is decided"
    changes = {"status": Status.INCONCLUSIVE, "outcome": Outcome.INCONCLUSIVE, "failure_class": None}
    estimates = tuple(e.model_copy(update={"margin": None, "status": None}) for e in verdict.estimates)
    reasons = (Reason(text=detail, ok=False),)
    return verdict.model_copy(
        update={**changes, "detail": detail, "reasons": reasons, "estimates": estimates, "needed": None}
    )


def _policy(policy: str, options: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"policy": policy, "relative": options["relative"]}
    for name in ("scales", "ranges", "directions"):
        if options[name] is not None:
            values[name] = _json_option(name, options[name])
    if options["threshold"] is not None:
        values["threshold"] = _threshold(options["threshold"])
    if options["margin"] is not None:
        values["margin"] = options["margin"]
    elif policy == "paired" and values.get("threshold") is not None:
        values["margin"] = values["threshold"]
    return values


def _threshold(text: str) -> float | None:
    if text.strip().lower() in {"null", "none", ""}:
        return None
    try:
        return float(text)
    except ValueError:
        raise Refused(f"--threshold {text!r} is no number (allowed: 0 to 1, or null)") from None


def _expectation(item: str) -> tuple[str, int]:
    task, _, count = item.rpartition("=")
    if not task or not count.isdecimal():
        raise Refused(f"--expect {item!r} is not TASK=N")
    return task, int(count)


def _is_scores(path: Path) -> bool:
    """A file that no harness wrote, by its look: an object without the keys of one."""
    if path.suffix.lower() in _ROWS:
        return False
    value = _json_file(path)
    return not (isinstance(value, Mapping) and {"results", "tasks", "samples", "eval"} & set(value))


def _json_option(name: str, text: str) -> Any:
    path = Path(text)
    try:
        is_file = len(text) < 4096 and path.is_file()
    except (OSError, ValueError):
        is_file = False
    return _json_file(path) if is_file else _parsed(text, f"--{name}")


def _json_file(path: Path) -> Any:
    """Any JSON value from a file; NaN and infinities come through for the gate to refuse by name."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > SIZE_LIMIT_BYTES:
        raise Refused(f"{path}: larger than {SIZE_LIMIT_BYTES >> 20} MiB")
    try:
        return _parsed(data.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8 text: {error.reason}") from error


def _parsed(text: str, where: str) -> Any:
    hook: Callable[[list[tuple[str, Any]]], dict[str, Any]] = _no_duplicates(where)
    try:
        return json.loads(text, object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where}: not JSON: {error}") from error


def _no_duplicates(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refused(f"{where}: a key stands twice in one object")
        return found

    return hook
