"""The command line. This module imports nothing heavy: a command's own module is loaded when it is called."""

from __future__ import annotations

import errno
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from assay import __version__

_COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("assay.cli.spec", "Print a commented starter spec."),
    "plan": ("assay.cli.spec", "Show steps, gates, samples needed and what will be changed; runs nothing."),
    "run": ("assay.cli.study", "Run a study to its Decision."),
    "resume": ("assay.cli.study", "Go on with a study after a crash, a kill or an interruption."),
    "calibrate": ("assay.cli.calibrate", "Measure how much an evaluation differs from itself; plans use it."),
    "minimize": ("assay.cli.evolve", "Search for the shortest text with equivalent behaviour, and prove it."),
    "ablate": ("assay.cli.evolve", "Measure what each section of a text earns."),
    "ls": ("assay.cli.show", "List the studies of this project."),
    "show": ("assay.cli.show", "Show a study or trial: gates, reasons, figures."),
    "train": ("assay.cli.train", "Run a training command as an attempt of an experiment, watched."),
    "watch": ("assay.cli.watch", "Follow a study or a training experiment that runs in another process."),
    "report": ("assay.cli.show", "Write the HTML report, or a bundle that others can verify."),
    "verify": ("assay.cli.verify", "Derive every verdict again from the stored evidence."),
    "apply": ("assay.cli.apply", "Bring an accepted candidate to its target."),
    "undo": ("assay.cli.apply", "Take an application back."),
    "export": ("assay.cli.export", "Write tuning runs as SQLite tables for queries of your own."),
    "import": ("assay.cli.export", "Take over tuning runs from such tables."),
    "gate": ("assay.cli.gate", "Ask one gate about files; JSON on stdout."),
    "experiment": ("assay.cli.experiment", "List, show, compare and end training experiments."),
    "decide": ("assay.cli.decide", "Decide between any two result folders or CSVs, with a picture."),
    "inspect": ("assay.cli.inspect", "Show what a checkpoint really is, by its bytes."),
    "show-results": ("assay.cli.results", "Print what an evaluation left behind; judges nothing."),
    "checkpoint": ("assay.cli.checkpoint", "List, verify and restore the checkpoints of an experiment."),
    "fit": ("assay.cli.fit", "Say before any launch whether a model fits this machine, with the bytes."),
    "load": ("assay.cli.loadtest", "Measure a server under load: throughput, latencies, goodput."),
    "lint-skill": ("assay.cli.lint", "Check a skill: frontmatter, links, sizes."),
    "lint-manifest": ("assay.cli.lint", "Check the tools of an MCP manifest."),
    "lint-suite": ("assay.cli.lint", "Check a suite of tasks: leaks, flaky verifiers, what nobody can pass."),
    "doctor": ("assay.cli.doctor", "List all kinds of components and what they need."),
    "schema": ("assay.cli.spec", "Print the JSON Schema of a spec."),
    "demo": ("assay.cli.demo", "Run the whole release job on the small model that comes with Assay."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and loads a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded now."""
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = getattr(
            importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name.replace("-", "_")
        )
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="assay")
def cli() -> None:
    """Assay runs a change to a model for real, measures it against its baseline, and keeps it only when the
    evidence proves it good.

    stdout is for results, stderr for progress. Exit codes: 0 accepted or passed, 1 judged and not kept, 2 usage or
    unreadable input, 3 infeasible, 4 inconclusive, 5 anomalous, 6 a component is missing or failed, 7 ledger,
    130 interrupted, 141 nobody reads stdout any more, as with `| head`.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: every ending is an exit code and at most one line, never a traceback."""
    _listen_to_signals()
    sys.exit(_run(list(argv) if argv is not None else None))


def _run(argv: list[str] | None) -> int:
    from assay.core.errors import AssayError, Interrupted

    try:
        result: Any = cli.main(args=argv, prog_name="assay", standalone_mode=False)
    except Interrupted as error:
        _say(f"assay: {error}" if error.where else f"assay: interrupted by {error}")
        return error.exit_code
    except AssayError as error:
        _say(f"assay: {error}")
        return error.exit_code
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except (BrokenPipeError, SystemExit):  # rich leaves with 1, a verdict, when nobody reads its tables
        return _nobody_reads()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        after = ". Next: free space on that disk, then `assay resume`" if full else ""
        _say(f"assay: {error.filename or 'the operating system'}: {error.strerror or error}{after}")
        return 6
    except Exception as error:  # noqa: BLE001 - whatever we overlooked must not end in a traceback either
        _say(f"assay: {_defect(error)}")
        return 5
    return result if isinstance(result, int) else 0


def _nobody_reads() -> int:
    """Leave quietly when stdout was closed, as `head` does, with the code of one that SIGPIPE ended: 0 is a verdict."""
    import os

    os.dup2(
        os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
    )  # or the interpreter complains when it flushes
    return 128 + signal.SIGPIPE


def _defect(error: Exception) -> str:
    """A defect of Assay in one line that can be reported."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return (
        f"a defect of Assay: {type(error).__name__}: {text} ({frame.filename}:{frame.lineno}). "
        "Next: report this line; what is finished is in the ledger, `assay resume` goes on"
    )


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be a terminal that is gone, or nobody's
        click.echo(line, err=True)


def _listen_to_signals() -> None:
    """The first SIGINT or SIGTERM ends the work cleanly; the guards of our children end those if we die."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _stop)


@contextmanager
def hangup_stops() -> Iterator[None]:
    """A terminal that is closed ends the work cleanly too, unless `nohup` asked to go on."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _stop(number: int, _frame: FrameType | None) -> None:
    from assay.core.errors import Interrupted
    from assay.runtime.interrupts import interrupt

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _leave)
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)  # the shell and the kernel both say that a terminal is closed
    interrupt(Interrupted(signal.Signals(number).name))


def _leave(_number: int, _frame: FrameType | None) -> None:
    import os

    try:
        _say("assay: stopped at once; `assay resume` goes on with what is in the ledger")
    finally:
        os._exit(130)
