"""Writes what is derived: docs/reference/*.md and schemas/*.json. `--check` only says whether they are up to date."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic_core import to_jsonable_python

from assay import registry
from assay.cli import cli
from assay.core.triage import TRIAGE
from assay.core.vocabulary import Verb
from assay.report.reference import MODELS, field_docs, json_schema

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by docs/build.py: `make docs`. -->\n\n"

SUPPORT = {
    ("build", "identity"): "runs here; tested on real checkpoints",
    ("build", "command"): "runs here",
    ("build", "compressed_tensors"): "runs here; every scheme reloaded and evaluated",
    (
        "build",
        "llmcompressor",
    ): "runs on CPU in an environment of its own; not in the test suite's environment",
    ("build", "modelopt"): "exports on CPU in an environment of its own; not in the test suite's environment",
    ("build", "gguf"): "runs here; llama architecture only",
    ("build", "recommendation"): "runs here",
    ("evaluate", "tuning"): "runs here",
    ("propose", "race"): "runs here",
    ("build", "train"): "runs here; real trainings, killed and resumed",
    ("serve", "transformers"): "runs here",
    ("serve", "llama_cpp"): "runs here (xllamacpp wheel); `binary:` takes a llama-server of yours",
    (
        "serve",
        "vllm",
    ): "command line, parser and errors tested on logs recorded from the CPU build; not run by the tests",
    (
        "serve",
        "sglang",
    ): "cannot run here: command line and errors tested on log lines quoted from public issues",
    ("serve", "openai"): "runs here against any server that already runs",
    ("serve", "command"): "runs here",
    ("evaluate", "load"): "runs here: our own load client",
    ("evaluate", "aiperf"): "runs the tool where it is installed; parser tested on recorded output",
    ("evaluate", "guidellm"): "runs the tool where it is installed; parser tested on recorded output",
    ("evaluate", "vllm_bench"): "runs the tool where it is installed; parser tested on recorded output",
    ("evaluate", "lm_eval"): "runs here over HTTP",
    ("evaluate", "command"): "runs here",
    (
        "evaluate",
        "agent",
    ): "runs here with agents of ours; agents of vendors by recorded output, see docs/evolve.md",
    ("evaluate", "evolution"): "runs here; reads files only",
    ("build", "search"): "runs here; engine `gepa` with GEPA 0.1.4",
    ("build", "text"): "runs here",
    ("apply", "text"): "runs here",
    ("evaluate", "checkpoint"): "runs here; reads files only",
    ("evaluate", "experiment"): "runs here; reads the record of a training, and runs a test evaluation",
    ("propose", "ladder"): "runs here",
    ("propose", "patches"): "runs here",
    ("propose", "optuna"): "runs here with Optuna 5.0",
    ("propose", "command"): "runs here with scripts; no agent of a vendor was called",
    ("execute", "local"): "runs here (Linux; on macOS orphans are found by process group only, untested)",
    ("apply", "config_file"): "runs here; killed and undone at every step",
    ("apply", "directory"): "runs here",
    ("apply", "none"): "runs here",
}
"""What was seen to run, by whom. Held complete by tests/house."""


def files() -> Iterator[tuple[Path, str]]:
    """Every derived file with its content."""
    for name in MODELS:
        text = json.dumps(json_schema(name), indent=2, sort_keys=True) + "\n"
        yield ROOT / "schemas" / f"{name}.json", text
    yield ROOT / "docs/reference/commands.md", NOTE + commands()
    yield ROOT / "docs/reference/spec.md", NOTE + spec()
    yield ROOT / "docs/reference/support.md", NOTE + support()
    yield ROOT / "docs/reference/failures.md", NOTE + failures()
    derived = _formats()
    yield ROOT / "docs/reference/formats.md", NOTE + derived.page()
    yield ROOT / "docs/reference/recipes.md", NOTE + derived.recipes()
    yield ROOT / "docs/reference/metrics.md", NOTE + derived.metrics()


def _formats() -> Any:
    """`formats.py` beside this file: it reads the readers and the corpus under tests/known_good."""
    if str(ROOT / "docs") not in sys.path:
        sys.path.insert(0, str(ROOT / "docs"))
    return importlib.import_module("formats")


def commands() -> str:
    """The command line, as `--help` prints it."""
    parts = ["# Commands\n"]
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts += _help(f"assay {name}", command)
    return "\n".join(parts)


def _help(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=path,
        max_content_width=100,
        terminal_width=100,
        help_option_names=[
            "-h",
            "--help",
        ],  # as `assay` itself has them: click keeps the first that it is asked with
    )
    yield f"## {path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            nested = command.get_command(context, name)
            assert nested is not None
            yield from _help(f"{path} {name}", nested)


def spec() -> str:
    """All keys of the specs, and the options of every kind."""
    parts = [
        "# The specs\n",
        _fields("Keys of a release", MODELS["release"]),
        _fields("Keys of a train study", MODELS["train"]),
    ]
    for verb in (Verb.BUILD, Verb.SERVE, Verb.EVALUATE, Verb.PROPOSE, Verb.APPLY):
        parts += [
            _fields(f"{verb.value}: {{kind: {kind}}}", registry.module(verb, kind).Options)
            for kind in registry.kinds(verb)
        ]
    return "\n".join(parts)


def _fields(title: str, model: Any) -> str:
    docs = field_docs(model)
    rows = [f"## {title}\n", "| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{json.dumps(_plain(field))}`"
        rows.append(f"| `{field.alias or name}` | {default} | {docs.get(name, '')} |".replace("||", "|"))
    return "\n".join(rows) + "\n"


def _plain(field: Any) -> Any:
    return to_jsonable_python(field.get_default(call_default_factory=True))


def support() -> str:
    """What runs where."""
    rows = ["# What runs where\n", "| verb | kind | state |", "|---|---|---|"]
    for verb in Verb:
        rows += [f"| {verb.value} | {k} | {SUPPORT[verb.value, k]} |" for k in registry.kinds(verb)]
    return "\n".join(rows) + "\n"


def failures() -> str:
    """The triage table."""
    rows = ["# Failure classes and what Assay does about them\n"]
    rows += ["| class | tries again | then | word | what you do |", "|---|---|---|---|---|"]
    for name, rule in TRIAGE.items():
        rows.append(f"| {name} | {rule.retries or 'no'} | {rule.action} | {rule.outcome} | {rule.advice} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write or check."""
    stale = []
    for path, text in files():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    print("up to date" if not stale else "\n".join(stale))
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
