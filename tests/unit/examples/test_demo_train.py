"""`assay demo --train`: what the display shows of a recorded run, and how the child is started and ended."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from itertools import count, groupby
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assay.cli import demo_train
from assay.core.errors import ComponentFailed, ComponentMissing, Interrupted, UsageError

RECORDED = (Path(__file__).parent / "recorded_progress.jsonl").read_text(encoding="utf-8").splitlines()
LAST = demo_train.Line.model_validate_json(RECORDED[-1])


def shown(lines, **settings) -> str:
    """All that `show` writes, with a clock that moves a second a look."""
    file = io.StringIO()
    console = Console(file=file, width=100, **settings)
    demo_train.show(lines, console, clock=count().__next__)
    return file.getvalue()


def test_plain_lines_without_a_terminal():
    """Where there is no terminal, each new accuracy or message is one line of plain text."""
    text = shown(RECORDED)
    assert "\x1b" not in text
    lines = text.splitlines()
    states = [(line.accuracy, line.message) for line in map(demo_train.Line.model_validate_json, RECORDED)]
    assert len(lines) == len([state for state, _ in groupby(states)])
    assert "step 0/2800" in lines[0]
    assert re.search(r"step 2800/2800 .* add \d+% sort \d+% .* facts \d+% .* items right", lines[-1])


def test_live_display_ends_with_the_last_state():
    """On a terminal the last frame shows full progress, the six slices and the closing message."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(RECORDED, force_terminal=True))
    frame = text[text.rindex(LAST.message) :]
    assert "2800/2800" in frame
    assert LAST.accuracy is not None
    for name, share in LAST.accuracy.items():
        assert re.search(rf"{name}\s.* {int(share * 100)}%", frame)
    assert re.search(r"loss [▁▂▃▄▅▆▇█]{20,}", frame)


def test_bars_fill_with_accuracy():
    """A slice's bar is as long as its share of right answers."""
    console = Console(file=io.StringIO(), width=100, color_system=None)
    display = demo_train.Display(console, clock=count().__next__)
    shares = dict(zip(demo_train.SLICES, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), strict=True))
    display.update(demo_train.Line(step=1, steps=2, accuracy=shares))
    with console.capture() as capture:
        console.print(display.render())
    rows = [row for row in capture.get().splitlines() if row.split()[:1] and row.split()[0] in shares]
    assert [row.count("━") for row in rows] == [0, 8, 16, 24, 32, 40]


@pytest.mark.parametrize(("share", "text"), [(1.0, "100%"), (0.999, "99%"), (0.29, "29%"), (0.0, "0%")])
def test_only_all_right_is_100_percent(share, text):
    """A share is rounded down, so that 349 of 350 is not shown as all."""
    display = demo_train.Display(Console(file=io.StringIO()))
    display.update(demo_train.Line(step=1, steps=1, accuracy={"add": share}))
    assert f"add {text} " in display.plain()


def test_display_before_the_first_line():
    """Before anything is known the display stands already, without figures."""
    console = Console(file=io.StringIO(), width=100, color_system=None)
    display = demo_train.Display(console)
    with console.capture() as capture:
        console.print(display.render())
    assert "starting" in capture.get()
    assert "%" not in capture.get()
    assert display.left_s() is None


def test_time_left_is_by_the_speed_so_far():
    """10 steps in 5 seconds, the start-up not counted, leave 45 seconds for 90 more."""
    now = iter([0.0, 100.0, 105.0])
    display = demo_train.Display(Console(file=io.StringIO()), clock=lambda: next(now))
    display.update(demo_train.Line(step=0, steps=100))
    display.update(demo_train.Line(step=10, steps=100))
    assert display.left_s() == pytest.approx(45.0)


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "Loading weights",
        "[]",
        "null",
        '{"step": 1}',
        '{"step": -1, "steps": 2}',
        '{"step": 1, "steps": 0}',
        "\x00",
    ],
)
def test_what_is_no_progress_line_is_passed_over(junk):
    """Anything else that a library prints to stdout neither shows nor stops the display."""
    assert shown([junk, RECORDED[0]]) == shown([RECORDED[0]])


@pytest.mark.parametrize("terminal", [False, True])
def test_ascii_terminals_get_ascii(terminal):
    """A console that cannot encode blocks and dots gets neither."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    demo_train.show(RECORDED, Console(file=file, width=100, force_terminal=terminal), clock=count().__next__)
    file.flush()
    assert b"2800/2800" in raw.getvalue()


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=300), st.integers(1, 80))
def test_sparkline_fits_and_keeps_order(values, width):
    """Never wider than asked; the largest picked value has the highest block, the last value stays."""
    line = demo_train.sparkline(sorted(values, reverse=True), width)
    assert len(line) == min(width, len(values))
    assert list(line) == sorted(line, reverse=True)


def test_sparkline_of_a_falling_loss():
    """A thousandfold fall crosses all blocks evenly, since the scale is logarithmic."""
    assert demo_train.sparkline([10 ** (-k / 7 * 3) for k in range(8)], 60) == "█▇▆▅▄▃▂▁"


def test_assets_is_the_repository_folder():
    """In a clone the example lies in the repository, with all that training needs."""
    folder = demo_train.assets()
    assert {"train.py", "skills.py", "tasks", "model"} <= {path.name for path in folder.iterdir()}


def test_missing_packages_are_named_with_the_command(monkeypatch, tmp_path):
    """Without torch the error names what is missing and the pip command for this interpreter."""
    monkeypatch.setattr(demo_train, "PACKAGES", ("json", "no_such_torch"))
    with pytest.raises(ComponentMissing, match=re.escape(f"{sys.executable} -m pip install no_such_torch")):
        demo_train.train(tmp_path / "out", 0, None, Console(file=io.StringIO()))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_taken_folder_is_refused(tmp_path, kind):
    """Nothing is started over what already lies there."""
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        (out / "deep").mkdir(parents=True)
    with pytest.raises(UsageError, match="not empty"):
        demo_train.train(out, 0, None, Console(file=io.StringIO()))


@pytest.fixture
def trainer(monkeypatch, tmp_path):
    """Puts a small script in the place of the trainer; it leaves its process id in `pid`."""

    def put(body: str) -> Path:
        folder = tmp_path / "example"
        folder.mkdir()
        pid = tmp_path / "pid"
        start = "import os, pathlib, signal, sys, time\n"
        start += f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        (folder / "train.py").write_text(start + body)
        monkeypatch.setattr(demo_train, "assets", lambda: folder)
        return folder

    return put


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether the process has ended, or ends soon."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_options_reach_the_trainer(trainer, tmp_path):
    """Out, seed and steps are handed over, and the folder comes back."""
    trainer(
        "out = pathlib.Path(sys.argv[2]); out.mkdir()\n"
        "(out / 'model.safetensors').write_text(' '.join(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    assert demo_train.train(out, 7, 11, Console(file=io.StringIO())) == out
    assert (out / "model.safetensors").read_text() == f"--out {out} --seed 7 --steps 11"


@pytest.mark.parametrize(("body", "code"), [("sys.exit('boom')", 1), ("sys.stderr.write('boom')", 0)])
def test_a_trainer_without_result_is_a_failure(trainer, tmp_path, body, code):
    """A nonzero exit, or an exit of 0 that leaves no weights, is ComponentFailed with the end of its log."""
    trainer(body)
    with pytest.raises(ComponentFailed, match=f"exit code {code}") as caught:
        demo_train.train(tmp_path / "out", 0, None, Console(file=io.StringIO()))
    assert "boom" in caught.value.log_tail


@pytest.mark.parametrize("stubborn", [False, True])
def test_interrupt_ends_the_child(trainer, tmp_path, monkeypatch, stubborn):
    """Ctrl-C ends the trainer, also one that ignores SIGTERM, and is told as Interrupted."""
    monkeypatch.setattr(demo_train, "GRACE_S", 0.3)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    trainer(ignore + 'print(\'{"step": 0, "steps": 1}\', flush=True)\ntime.sleep(60)')
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interrupted):
            demo_train.train(tmp_path / "out", 0, None, Console(file=io.StringIO()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
def test_the_child_does_not_outlive_a_killed_parent(trainer, tmp_path):
    """A kill -9 of `assay demo --train` ends the trainer at its next line of progress."""
    folder = trainer(
        'while True:\n    print(\'{"step": 0, "steps": 1}\', flush=True)\n    time.sleep(0.05)\n'
    )
    code = (
        "import pathlib, rich.console\nfrom assay.cli import demo_train\n"
        f"demo_train.assets = lambda: pathlib.Path({str(folder)!r})\n"
        f"demo_train.train(pathlib.Path({str(tmp_path / 'out')!r}), 0, None, rich.console.Console())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert gone(int(pid.read_text()))


@pytest.mark.slow
def test_three_real_steps(tmp_path):
    """The real trainer makes a whole, clean checkpoint, and the same bytes when it is run again by itself."""
    out, again = tmp_path / "out", tmp_path / "again"
    file = io.StringIO()
    demo_train.train(out, 5, 3, Console(file=file, width=100))
    assert "training 541,568 parameters" in file.getvalue()
    assert "of 2,100 items right" in file.getvalue()
    script = demo_train.assets() / "train.py"
    command = [
        sys.executable,
        str(script),
        "--out",
        str(again),
        "--seed",
        "5",
        "--steps",
        "3",
        "--items",
        "2",
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "chat_template.jinja",
    ):
        assert (out / name).read_bytes() == (again / name).read_bytes(), name
    assert '"padding": null' in (out / "tokenizer.json").read_text()
    assert '"truncation": null' in (out / "tokenizer.json").read_text()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "out"]
