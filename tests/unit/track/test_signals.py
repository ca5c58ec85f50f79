"""Preemption: a flag and nothing else, in real processes with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from assay.track.signals import Preemption

HEAD = """
import os, signal, sys, threading, time
from pathlib import Path
from assay.track.signals import Preemption
def ready(): print("ready", flush=True)
def until(condition):
    while not condition(): time.sleep(0.005)
"""


def start(body: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs the body; it says `ready` when signals may come."""
    command = [sys.executable, "-c", HEAD + body, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        out, err = process.stdout.read(), process.stderr.read()
    assert "Traceback" not in err, err
    return process.returncode, out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_only_sets_the_flag(number: signal.Signals) -> None:
    """The loop goes on, sees the flag, and leaves by itself."""
    process = start("""
p = Preemption(); p.install(); ready()
until(lambda: p.requested)
print(p.requested)
p.close()
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
""")
    process.send_signal(number)
    assert end(process) == (0, f"{number.name}\nTrue\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_second_signal_exits_at_once(number: signal.Signals) -> None:
    """A loop that never looks at the flag is ended by the second signal, with that signal's status."""
    process = start("""
p = Preemption(same_s=0.0); p.install(); ready()
until(lambda: p.requested)
ready()
time.sleep(600)
""")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert end(process)[0] == -number


def test_a_forwarded_copy_of_the_first_is_not_a_second() -> None:
    """A signal to the group and the same one from the parent are one request."""
    process = start("""
p = Preemption(same_s=1000.0); p.install(); ready()
until(lambda: p.requested)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGUSR1)
time.sleep(0.01)
print("alive")
""")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "alive\n")


def test_a_users_own_handler_comes_back() -> None:
    """close() gives the signal to whoever had it, and leaves it alone if somebody took it since."""
    process = start("""
mine = lambda n, f: None
other = lambda n, f: None
signal.signal(signal.SIGTERM, mine)
p = Preemption(); p.install()
signal.signal(signal.SIGUSR1, other)
p.close()
ready()
print(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGUSR1) is other)
""")
    assert end(process) == (0, "True True\n")


def test_outside_the_main_thread_nothing_is_taken() -> None:
    """Python allows handlers in the main thread alone: install says no instead of raising."""
    process = start("""
got = []
t = threading.Thread(target=lambda: got.append(Preemption().install())); t.start(); t.join()
ready(); print(got, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
""")
    assert end(process) == (0, "[False] True\n")


def test_other_children_end_as_if_we_were_not_there() -> None:
    """A forked child that is no loader worker dies by SIGTERM (Pool.terminate relies on it) and ignores SIGUSR1."""
    process = start("""
p = Preemption(); p.install()
r, w = os.pipe()
child = os.fork()
if child == 0:
    os.write(w, b"x")
    time.sleep(600)
os.read(r, 1)
ready()
os.kill(child, signal.SIGUSR1)
print(os.waitpid(child, os.WNOHANG) == (0, 0))
os.kill(child, signal.SIGTERM)
print(os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM, p.requested)
""")
    assert end(process) == (0, "True\nTrue None\n")


LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self): return 64
    def __getitem__(self, i):
        time.sleep(0.002)
        return torch.tensor(float(i))
if sys.argv[1] == "with":
    p = Preemption(same_s=1000.0); p.install()
else:
    signal.signal(signal.SIGTERM, lambda n, f: None)
seen = 0
loader = iter(DataLoader(Rows(), batch_size=4, num_workers=2, multiprocessing_context="fork"))
seen += len(next(loader))
ready()
for line in sys.stdin: break
for batch in loader:
    seen += len(batch)
print(seen)
loader = iter(DataLoader(Rows(), batch_size=4, num_workers=1, multiprocessing_context="fork", persistent_workers=True))
next(loader)
worker = loader._workers[0]
worker.terminate(); worker.join(); print(worker.exitcode)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ours", ["with", "without"])
def test_loader_workers_outlive_a_signal_to_the_group(ours: str) -> None:
    """The epoch is finished by all workers, and their trainer can still end them; without us torch loses them."""
    command = [sys.executable, "-c", HEAD + LOADER, ours]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate("go\n", timeout=120)
    if ours == "with":
        assert (process.returncode, out) == (0, "64\n0\n"), err
    else:
        assert "DataLoader worker" in err  # "exited unexpectedly" or "is killed": who looks first says it


def test_the_watchdog_speaks_once_when_nobody_answers() -> None:
    """After its patience it calls back once; an answer before that keeps it silent."""
    process = start("""
called = []
p = Preemption(patience_s=0.05); p.install()
t = p.watch(called.append)
ready()
until(lambda: called)
t.join()
print(called)
q = Preemption(patience_s=0.05)
q.requested, q.answered = "SIGTERM", True
t = q.watch(called.append); t.join()
print(called)
""")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "['SIGTERM']\n['SIGTERM']\n")


def test_the_flag_is_ours_alone() -> None:
    """A fresh flag is down, and its owner is this process."""
    preemption = Preemption()
    assert preemption.requested is None
    assert not preemption.answered
    assert preemption._owner == os.getpid()
