"""`assay train -- COMMAND`: a training as an attempt of an experiment, watched from outside."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

STOPPED, FAILED, INTERRUPTED = 1, 6, 130
SCHEMA = "train/1"
TAIL_LINES = 12


class Seconds(click.FloatRange):
    """A finite number of seconds: NaN passes every comparison of a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Raises:
            UsageError: if it is not finite.
        """
        from assay.core.errors import UsageError

        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            raise UsageError(f"{value!r} is no number of seconds", where=param.opts[0] if param else "")
        return found


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--experiment", "name", default="", help="Name of the new experiment, or the id of one to join."
)
@click.option("--parent", help="Experiment that this one grows out of: an id, `best`, `last` or `none`.")
@click.option("--hypothesis", help="What should get better, and why: a text, or the name of a file.")
@click.option("--require-hypothesis", is_flag=True, help="Refuse to start without one.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="YAML or JSON; frozen with the experiment.",
)
@click.option("--primary", metavar="NAME:min|max", help="The metric that the experiment is judged by.")
@click.option("--floor", help="Value below which a result must not be used.")
@click.option("--goal", help="Value that is wanted.")
@click.option("--stretch", help="Value that would be better still.")
@click.option("--steps", type=click.IntRange(1), help="Planned steps, for progress and rules.")
@click.option("--epochs", type=click.IntRange(1), help="Planned epochs.")
@click.option("--seed", type=int, help="Seed of the run, for the record.")
@click.option("--stop", "stop", default="default", metavar="POLICY", show_default=True,
              help="What alerts do to the run: default, off, critical, or CLASS=off|warn|stop,...")  # fmt: skip
@click.option("--rule", "rules", multiple=True, metavar="NAME=VALUE", help="Another limit for the checker.")
@click.option(
    "--resume", metavar="EXP", help="Another attempt of this experiment; its last command if none is given."
)
@click.option("--attach", metavar="EXP", help="Watch an attempt again whose watcher was killed.")
@click.option(
    "--max-duration",
    type=Seconds(min=0, min_open=True),
    metavar="S",
    help="Stop after so many seconds.",
)
@click.option("--stop-grace", type=Seconds(0), default=30.0, show_default=True, metavar="S",
              help="Between a request to stop and SIGTERM.")  # fmt: skip
@click.option("--kill-grace", type=Seconds(0), default=10.0, show_default=True, metavar="S",
              help="Between SIGTERM and SIGKILL.")  # fmt: skip
@click.option("--alert-webhook", metavar="URL", help="Post each alert there as JSON.")
@click.option(
    "--alert-command", metavar="CMD", help="Run this program with each alert as JSON on its standard input."
)
@click.option(
    "--diagnose", metavar="CMD",
    help="Ask this program for another diagnosis: evidence as JSON in, Markdown out, kept apart.",
)  # fmt: skip
@click.option("--no-live", is_flag=True, help="Plain lines on a terminal too.")
@click.option("--quiet", is_flag=True, help="Do not show what the command prints; it stands in the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def train(command: tuple[str, ...], **options: Any) -> int:
    """Run a training COMMAND as an attempt of an experiment: recorded, watched, stopped when it is lost.

    The command's output is shown on stderr and kept in the experiment's folder. A script that calls
    `assay.experiment()` joins; any other command is recorded as a process. Ctrl-C once asks for a checkpoint and an
    orderly end, twice ends it at once. If Assay itself is killed the training goes on: `--attach EXP` takes it up.

    Exit codes: 0 trained and nothing critical is open, 1 stopped or a critical alert, 2 usage, 6 the command is
    missing or failed, 130 interrupted.
    """
    ended = _run(command, options)
    if options["as_json"]:
        click.echo(json.dumps(ended.summary, indent=2))
    else:
        ended.print()
    return ended.code


class Ended(NamedTuple):
    """How an attempt ended."""

    code: int
    """The command's exit code."""
    summary: dict[str, Any]
    fields: Mapping[str, Any]
    """Of `attempt_ended`."""

    def print(self, *, err: bool = False) -> None:
        """What a person wants to know first, on stdout or stderr."""
        for line in _lines(self.summary, self.fields):
            click.echo(line, err=err)


def run_attempt(arguments: Sequence[str], *, dashboard: bool = False) -> Ended:
    """The command `assay train` with these arguments, without its output: for the demo.

    Args:
        arguments: as on the command line.
        dashboard: on a terminal show the picture of `assay watch` instead of a footer.

    Raises:
        AssayError: as the command.
    """
    options = dict(train.make_context("assay train", list(arguments)).params)
    return _run(options.pop("command"), {**options, "dashboard": dashboard})


def _run(command: tuple[str, ...], options: Mapping[str, Any]) -> Ended:
    from assay.core.errors import UsageError
    from assay.live import session
    from assay.track.experiments import experiments_root

    root = experiments_root()
    # Before anything starts: a training that nobody watches would be left behind.
    options = {**options, "delivery": _delivery(options), "diagnose": _program(options, "diagnose")}
    if options["attach"]:
        if command or options["resume"] or options["name"]:
            raise UsageError("--attach takes no command and no other experiment", where="--attach")
        with _interrupts() as interrupts:
            return _watch(session.unwatched(root, options["attach"]), options, interrupts, fresh=False)
    if root.is_dir():
        for known in session.conclude_ended(root):
            click.echo(f"assay: {known} had ended unwatched; its end is recorded now", err=True)
    folder, command = _chosen(root, command, options)
    limit = options["max_duration"]
    # From here on a signal is heard by the loop that watches: nothing may be left running behind our back.
    with _interrupts() as interrupts:
        process = session.begin(
            folder,
            command,
            env={},
            grace_s=options["kill_grace"],
            # Should we be gone by then, the keeper itself ends it, after the time that we would have given it.
            limit_s=limit + options["stop_grace"] + 5.0 if limit else None,
        )
        return _watch(process, options, interrupts, fresh=True)


def _chosen(root: Path, command: tuple[str, ...], options: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """The experiment to train, made only if the command can run, and the command."""
    from assay.core.errors import UsageError
    from assay.live import session

    folder = None
    if options["resume"]:
        folder, before = session.resumed(root, options["resume"])
        _refuse_plan(options)
        command = command or before
    if not command:
        raise UsageError("no command was given", where="assay train", next="`assay train -- python train.py`")
    _require_program(command)
    return folder or session.open_experiment(root, _wanted(options)), command


def _watch(process: Any, options: Mapping[str, Any], interrupts: _Interrupts, *, fresh: bool) -> Ended:
    from assay.cli.train_display import display
    from assay.live import diagnosis, session
    from assay.live.attempt import log_path
    from assay.live.following import FollowText
    from assay.live.supervisor import Patience, Supervisor
    from assay.live.watching import Desk

    log = FollowText(log_path(process.folder, process.attempt), int(process.status.get("log_offset") or 0))
    with (
        session.watching(process.folder),
        display(
            log,
            quiet=options["quiet"],
            live=not options["no_live"],
            dashboard=options.get("dashboard", False),
        ) as shown,
    ):
        shown.say(f"{process.folder.name} attempt {process.attempt}, process {process.pid}: {process.folder}")
        desk = Desk(process.folder, shown.say, options["delivery"])
        supervisor = Supervisor(
            process.folder,
            process.attempt,
            desk.judge,
            desk.deliver,
            process,
            patience=Patience(options["stop_grace"], kill_s=options["kill_grace"]),
            limit_s=options["max_duration"],
            say=shown.say,
            fresh=fresh,
            settle=desk.settle,
        )

        def each(watched: Supervisor) -> None:
            shown.update(watched)
            desk.remind()
            if interrupts.count > 1:
                watched.request_stop("user", "interrupted twice")
                watched.kill()
            elif interrupts.count:
                watched.request_stop("user", f"interrupted by {interrupts.name}")

        fields = session.supervise(supervisor, process, each)
        shown.update(supervisor)
        for problem in desk.judge.problems:
            shown.say(problem)
        found = diagnosis.write(process.folder, options["diagnose"])
        desk.close()
    return _told(process, supervisor, fields, found, interrupted=interrupts.count > 0)


def _delivery(options: Mapping[str, Any]) -> Any:
    from urllib.parse import urlsplit

    from assay.core.errors import UsageError
    from assay.live.alerts import Delivery

    url = options["alert_webhook"]
    if url is not None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{url!r} is no URL", where="--alert-webhook", allowed="http://... or https://..."
            )
    return Delivery(webhook=url, command=_program(options, "alert_command"))


def _program(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The words of an option that names a program; none if it was not given."""
    import shlex

    from assay.core.errors import UsageError

    text, where = options[name], f"--{name.replace('_', '-')}"
    if text is None:
        return ()
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"cannot be split into words: {error}", where=where) from error
    if not words:
        raise UsageError("it is empty", where=where)
    _require_program(words)
    return words


def _told(
    process: Any,
    supervisor: Any,
    fields: Mapping[str, Any],
    found: Any,
    *,
    interrupted: bool,
) -> Ended:
    from assay.live.attempt import log_path

    story = supervisor.story
    own = [a for a in supervisor.judge.alerts if a.attempt in (process.attempt, None)]
    critical = [a for a in own if a.state == "open" and a.severity == "critical"]
    code = _exit_code(fields, critical, interrupted=interrupted)
    summary = {
        "schema": SCHEMA,
        "experiment": process.folder.name,
        "name": story.name,
        "attempt": process.attempt,
        "folder": str(process.folder),
        "outcome": fields["outcome"],
        "exit_code": fields["exit_code"],
        "signal": fields["signal"],
        "resources": fields["resources"],
        "stopped_by": supervisor.stop.by if supervisor.stop else None,
        "stop_reason": supervisor.stop.reason if supervisor.stop else None,
        "step": story.step,
        "metrics": {
            m.name: m.current if m.current is not None else (m.current_text or None) for m in story.metrics()
        },
        "best": {m.name: m.best for m in story.metrics() if m.best is not None},
        "checkpoints": [
            {
                "name": c.name,
                "step": c.step,
                "verified": c.verified or None,
                "failed": c.failed or None,
                "best": c.best,
            }
            for c in story.checkpoints.values()
        ],
        "diagnosis": None
        if found is None
        else {
            "file": str(process.folder / "diagnosis.md"),
            "mechanism": list(found.mechanism),
            "next": list(found.next),
        },
        "alerts": [a.to_json() for a in own],
        "problems": list(story.troubles),
        "log": str(log_path(process.folder, process.attempt)),
        "verdict_exit_code": code,
    }
    return Ended(code, summary, fields)


def _exit_code(fields: Mapping[str, Any], critical: list[Any], *, interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    if fields["outcome"] == "stopped":
        return STOPPED
    if fields["outcome"] != "exited":
        return FAILED
    return STOPPED if critical else 0


def _lines(summary: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[str]:
    """The summary for people."""
    from assay.cli.dashboard import value
    from assay.core.sizes import size
    from assay.report._view.text import duration, one_line, plain

    how = fields["signal"] or (
        f"exit {fields['exit_code']}" if fields["exit_code"] is not None else "no exit known"
    )
    used = fields["resources"]
    spent = f", {duration(used['wall_s'])}, {size(used['max_rss_bytes'])} of memory" if used else ""
    yield f"{summary['experiment']} attempt {summary['attempt']}: {fields['outcome']} ({how}{spent})"
    if summary["stop_reason"]:
        yield f"  stopped by {one_line(summary['stopped_by'])}: {one_line(summary['stop_reason'])}"
    if summary["metrics"]:
        shown = (
            f"{one_line(name, 40)} {now if isinstance(now, str) else value(now)}"
            + (f" (best {value(best)})" if best is not None else "")
            for name, now in list(summary["metrics"].items())[:6]
            for best in [summary["best"].get(name)]
        )
        yield f"  step {summary['step'] or 0:g}: " + ", ".join(shown)
    for alert in summary["alerts"]:
        if alert["state"] == "open" or alert["severity"] == "critical":
            yield f"  {alert['severity']} {alert['name']} {alert['state']}: {one_line(alert['text'])}"
            if alert["state"] == "open":
                yield f"    {one_line(alert['action'])}"
    yield from _checkpoint_lines(summary["checkpoints"])
    for text in summary["problems"]:
        yield f"  the record is not whole: {one_line(text)}"
    if fields["outcome"] in ("crashed", "killed", "lost"):
        for line in str(fields.get("log_tail", "")).splitlines()[-TAIL_LINES:]:
            yield f"  | {plain(line)}"
    yield from _next_lines(summary, fields)


def _checkpoint_lines(found: Any) -> Iterator[str]:
    from assay.report._view.text import one_line

    good, bad = [c for c in found if not c["failed"]], [c for c in found if c["failed"]]
    if good:
        last = good[-1]
        word = f"verified by {last['verified']}" if last["verified"] else "not verified yet"
        yield f"  checkpoints {len(good)}, last {one_line(last['name'])} ({word})"
    for one in bad[-2:]:
        yield f"  checkpoint {one_line(one['name'])} is not used: {one_line(one['failed'])}"


def _next_lines(summary: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[str]:
    """The diagnosis in a line, and the steps that help."""
    from assay.report._view.text import one_line

    name, found = summary["experiment"], summary["diagnosis"] or {}
    if summary["step"] is None and not summary["metrics"] and fields["outcome"] == "exited":
        yield "  it wrote no metrics: `with assay.experiment() as run:` and `run.log({...})` in the script do"
        return
    mechanism, ideas = list(found.get("mechanism", ())), list(found.get("next", ()))
    for line in mechanism[:1]:
        yield f"  diagnosis: {one_line(line, 600)}"
    if "No module named 'assay'" in str(fields.get("log_tail", "")):
        yield (
            "  next: the Python of this command has no Assay: install it there, or run the script with "
            f"{sys.executable}"
        )
    elif mechanism or fields["outcome"] == "stopped":
        # What ended well has nothing to go on with: the last idea is how to resume.
        last = [] if summary["verdict_exit_code"] == 0 else ideas[-1:]
        for line in dict.fromkeys([*ideas[:-1][:2], *last]):
            yield f"  next: {one_line(line, 300)}"
    if fields["outcome"] == "exited":
        yield f"  next: `assay report {name}`, `assay gate training {name}`"


def _wanted(options: Mapping[str, Any]) -> Any:
    from assay.core.errors import UsageError
    from assay.live.session import Wanted, plan_of, stop_policy
    from assay.track.experiments import make_plan

    thresholds = {tier: options[tier] for tier in ("floor", "goal", "stretch") if options[tier] is not None}
    name, direction = _primary(options["primary"])
    try:
        made = make_plan(
            primary_metric=name,
            direction=direction,
            thresholds=thresholds,
            total_steps=options["steps"],
            total_epochs=options["epochs"],
            seed=options["seed"],
        )
    except ValueError as error:
        raise UsageError(str(error), where="assay train") from error
    return Wanted(
        name=options["name"],
        parent=options["parent"],
        hypothesis=_hypothesis(options["hypothesis"]),
        config=_config(options["config_file"]),
        plan=plan_of(made, _rules(options["rules"]), stop_policy(options["stop"])),
        require_hypothesis=options["require_hypothesis"],
    )


def _primary(text: str | None) -> tuple[str | None, str | None]:
    from assay.core.errors import UsageError

    if text is None:
        return None, None
    name, colon, direction = text.rpartition(":")
    if not colon:
        return text, None
    if not name or direction not in ("min", "max"):
        raise UsageError(f"{text!r} is no metric", where="--primary", allowed="NAME, NAME:min or NAME:max")
    return name, direction


def _rules(given: tuple[str, ...]) -> dict[str, float | int]:
    from assay.core.errors import UsageError

    found: dict[str, float | int] = {}
    for text in given:
        name, _, shown = text.partition("=")
        try:
            number = float(shown)
        except ValueError as error:
            raise UsageError(
                f"{text!r} is no NAME=VALUE", where="--rule", allowed="a number, such as stall_s=60"
            ) from error
        found[name.strip()] = int(number) if number.is_integer() else number
    return found


def _hypothesis(text: str | None) -> str | Path | None:
    from assay.core.errors import UsageError

    if text is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        path = Path(text)
        if path.is_file():
            return path
    if not text.strip():
        raise UsageError("it is empty", where="--hypothesis")
    return text


def _config(path: Path | None) -> Any:
    from assay.core.errors import UsageError

    if path is None:
        return None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", where=str(path)) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise UsageError(
            f"neither YAML nor JSON: {' '.join(str(error).split())[:200]}", where=str(path)
        ) from error
    if not isinstance(found, dict):
        raise UsageError("a configuration is a mapping of names to values", where=str(path))
    return found


def _refuse_plan(options: Mapping[str, Any]) -> None:
    from assay.core.errors import UsageError

    fixed = (
        "parent",
        "config_file",
        "primary",
        "floor",
        "goal",
        "stretch",
        "steps",
        "epochs",
        "seed",
        "rules",
        "name",
    )
    for name in fixed:
        if options[name]:
            shown = {"config_file": "config", "rules": "rule", "name": "experiment"}.get(name, name)
            raise UsageError(
                "what an experiment promises is fixed since its first attempt",
                where=f"--{shown}",
                next="leave it out, or start a child with --parent",
            )


def _require_program(command: tuple[str, ...]) -> None:
    """Before an experiment is made for nothing."""
    from assay.live.attempt import Start, find_program

    find_program(Start(Path(), 0, command, Path.cwd(), {}))


class _Interrupts:
    """Signals that arrived; nothing is raised, the watching loop looks."""

    def __init__(self) -> None:
        self.count = 0
        self.name = ""

    def noted(self, number: int, _frame: FrameType | None) -> None:
        """One more."""
        self.count += 1
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    noted = _Interrupts()
    before = {n: signal.signal(n, noted.noted) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
