"""`assay demo --train`: makes the example's model again, in a child process, with a live display."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from assay.core.errors import ComponentFailed, ComponentMissing, Interrupted, UsageError

SLICES = ("add", "sort", "reverse", "query", "tool", "facts")
PACKAGES = ("torch", "transformers", "tokenizers")
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
GRACE_S = 10.0
LOG_TAIL_BYTES = 4000


class Line(BaseModel):
    """One line of progress, as `train.py` prints it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    step: int = Field(ge=0)
    steps: int = Field(ge=1)
    loss: float | None = None
    """Mean answer loss over the last steps [nats per token]; None before the first."""
    tokens_per_s: float | None = None
    accuracy: Mapping[str, float] | None = None
    """Slice → share of exact answers; None before the first look."""
    message: str = ""


def assets() -> Path:
    """The folder of the release example: from the wheel, or else from the repository.

    Raises:
        ComponentMissing: if this installation came without it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_examples" / "release", package.parents[1] / "examples" / "release"):
        if (folder / "train.py").is_file():
            return folder
    raise ComponentMissing(
        "the release example is not part of this installation",
        where=str(package),
        next="install assay from its wheel or from a clone of the repository",
    )


def train(out: Path, seed: int = 0, steps: int | None = None, console: Console | None = None) -> Path:
    """Train the example's model into `out` and show how it goes.

    Args:
        out: folder to make; must not exist or be empty.
        seed: of the weights and of the training items.
        steps: None for as many as the recipe says.
        console: where the display goes, stderr by default; plain lines unless it is a terminal.

    Returns:
        The checkpoint's folder, which is `out`.

    Raises:
        UsageError: if `out` is taken.
        ComponentMissing: if torch, transformers or tokenizers is not installed.
        ComponentFailed: if the trainer ended without a checkpoint.
        Interrupted: on Ctrl-C; the trainer is ended and leaves nothing.
    """
    script = assets() / "train.py"
    _require_packages()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("the folder is not empty", where=str(out), next="name another folder or remove it")
    command = [sys.executable, str(script), "--out", str(out), "--seed", str(seed)]
    if steps is not None:
        command += ["--steps", str(steps)]
    with tempfile.TemporaryFile() as log, _child(command, log) as child:
        assert child.stdout is not None
        try:
            show(child.stdout, console or Console(stderr=True))
            code = child.wait()
        except KeyboardInterrupt:
            raise Interrupted(
                "training was interrupted and left nothing", next="assay demo --train starts it again"
            ) from None
        if code != 0 or not (out / "model.safetensors").is_file():
            raise ComponentFailed(
                f"the trainer ended with exit code {code}",
                where=str(script),
                next="run it by itself: " + " ".join(command),
                log_tail=_tail(log),
            )
    return out


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ComponentMissing(
            f"training needs {', '.join(missing)}",
            where=sys.executable,
            next=f"{sys.executable} -m pip install {' '.join(missing)}",
        )


@contextmanager
def _child(command: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """A child that never outlives the block: its group gets SIGTERM, then SIGKILL.

    It has a session of its own, so that Ctrl-C reaches it once, from here. Should we be killed, its next line
    of progress finds no reader and ends it.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env=env,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_TAIL_BYTES))
    return log.read().decode("utf-8", "replace")


def show(lines: Iterable[str], console: Console, clock: Callable[[], float] = time.monotonic) -> None:
    """Show a stream of progress lines until it ends; what is no such line is passed over.

    Args:
        lines: JSON objects, one a line.
        console: a live display if it is a terminal, else a line for each new accuracy or message.
        clock: seconds, for the time left.
    """
    display = Display(console, clock)
    if not console.is_terminal:
        for line in _parsed(lines):
            if display.update(line):
                console.print(display.plain(), highlight=False, soft_wrap=True)
        return
    with Live(get_renderable=display.render, console=console, refresh_per_second=4):
        for line in _parsed(lines):
            display.update(line)


def _parsed(lines: Iterable[str]) -> Iterator[Line]:
    for text in lines:
        try:
            yield Line.model_validate_json(text)
        except ValidationError:
            continue


class Display:
    """What is known of the training so far, and how it looks.

    Args:
        console: tells the encoding that it can show.
        clock: seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        unicode = console.encoding.lower().startswith("utf")
        self._blocks, self._separator = (BLOCKS, " · ") if unicode else (ASCII_BLOCKS, " | ")
        self._clock = clock
        self._started = clock()
        self._first: tuple[int, float] | None = None
        self._losses: list[float] = []
        self.line = Line(step=0, steps=1, message="starting")

    def update(self, line: Line) -> bool:
        """Take one line in; True if it brings a new accuracy or message."""
        news = line.accuracy != self.line.accuracy or line.message != self.line.message
        if line.loss is not None and line.step > self.line.step:
            self._losses.append(line.loss)
        if self._first is None:
            self._first = (line.step, self._clock())
        self.line = line
        return news

    def left_s(self) -> float | None:
        """Seconds left at the speed so far; None until a step is done."""
        if self._first is None or self.line.step <= self._first[0]:
            return None
        step, at = self._first
        return (self._clock() - at) / (self.line.step - step) * (self.line.steps - self.line.step)

    def plain(self) -> str:
        """The state as one line of text."""
        parts = [f"step {self.line.step}/{self.line.steps}", *self._figures()]
        if self.line.accuracy:
            parts.append(" ".join(f"{name} {_percent(share)}" for name, share in self.line.accuracy.items()))
        return self._separator.join([*parts, self.line.message])

    def render(self) -> RenderableType:
        """The state as a picture of ten lines."""
        line = self.line
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=line.steps, completed=line.step, width=40),
            f"{line.step}/{line.steps}",
            _duration(self._clock() - self._started),
            *self._figures(),
        )
        bars = Table.grid(padding=(0, 1))
        for name in line.accuracy or SLICES:
            share = (line.accuracy or {}).get(name)
            style = "green" if share is not None and share >= 0.99 else "cyan"
            bars.add_row(
                name,
                ProgressBar(
                    total=1.0, completed=share or 0.0, width=40, complete_style=style, finished_style=style
                ),
                "" if share is None else _percent(share),
            )
        loss = Text.assemble(("loss ", "dim"), (sparkline(self._losses, 60, self._blocks), "magenta"))
        return Group(Text(line.message, style="bold"), head, loss, bars)

    def _figures(self) -> list[str]:
        figures = []
        if (left := self.left_s()) is not None:
            figures.append(f"{_duration(left)} left")
        if self.line.loss is not None:
            figures.append(f"loss {self.line.loss:.3f}")
        if self.line.tokens_per_s is not None:
            figures.append(f"{self.line.tokens_per_s:,.0f} tokens/s")
        return figures


def sparkline(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """A series as one row of blocks, on a logarithmic scale: a loss falls over three decades.

    Args:
        values: the series; longer than `width` it is thinned out, its end kept.
        width: columns at most.
        blocks: characters from the lowest to the highest.
    """
    count = min(width, len(values))
    picked = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    logs = [math.log(max(value, 1e-6)) for value in picked]
    if not logs:
        return ""
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    return "".join(blocks[round((value - low) / span * (len(blocks) - 1))] for value in logs)


def _percent(share: float) -> str:
    """Rounded down: 100 % is said of all and of nothing less."""
    return f"{math.floor(share * 100 + 1e-9)}%"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
