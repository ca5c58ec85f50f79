"""How far agents are kept from the machine: by real attempts to get out."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest
from agent_world import agent, rules, task

from assay.core.agent import AgentCommand, AgentOutcome, AgentRun
from assay.core.errors import ComponentMissing
from assay.core.run import Work
from assay.core.suite import Verifier
from assay.runtime import process
from assay.runtime.agents import AgentRunner
from assay.runtime.agents import isolation as module
from assay.runtime.agents.isolation import Isolation, Places, chosen

pytestmark = pytest.mark.slow

WORKS = {level: not module._why_not(level, False, "") for level in ("namespace", "bubblewrap")}
needs_namespace = pytest.mark.skipif(not WORKS["namespace"], reason="user namespaces do not work here")
needs_bubblewrap = pytest.mark.skipif(
    not WORKS["bubblewrap"], reason="bwrap is not installed or does not work here"
)
LEVELS = [
    pytest.param("namespace", marks=needs_namespace),
    pytest.param("bubblewrap", marks=needs_bubblewrap),
]

CONNECT = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", PORT), 3).close()
    said = "reached"
except OSError:
    said = "not reached"
open("answer.txt", "w").write(said)
"""


def done(tmp_path: Path, code: str, expected: str, hidden: tuple[Path, ...] = (), **more: object) -> AgentRun:
    """One run of an agent that writes what it found."""
    runner = AgentRunner(agent(tmp_path, code, **more), rules(tmp_path), tmp_path / "work", hidden=hidden)
    return runner.run(task(expected=expected), "right\n", arm="baseline", rep=1, seed=1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("network", [True, False])
def test_without_network_a_listener_is_out_of_reach(tmp_path: Path, level: str, network: bool) -> None:
    """A real listener of ours is reached with network and not without, by the same agent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = CONNECT.replace("PORT", str(listener.getsockname()[1]))
        run = done(tmp_path, code, "reached" if network else "not reached", isolation=level, network=network)
    assert run.passed, run.feedback


@pytest.mark.parametrize("level", LEVELS)
def test_an_agent_without_network_still_has_its_own_loopback(tmp_path: Path, level: str) -> None:
    """It can talk to a server that it starts itself."""
    code = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), 3).close()
open("answer.txt", "w").write("own")
"""
    run = done(tmp_path, code, "own", isolation=level, network=False)
    assert run.passed, (run.reason, run.said)


def test_no_network_is_refused_where_it_cannot_be_forbidden(tmp_path: Path) -> None:
    """Without isolation there is no promise."""
    with pytest.raises(ComponentMissing, match="network"):
        AgentRunner(agent(tmp_path, network=False), rules(tmp_path), tmp_path / "work")


@pytest.mark.parametrize("level", LEVELS)
def test_deciding_tests_cannot_be_reached(tmp_path: Path, level: str) -> None:
    """The suite's folder, the journal and another run's workspace are empty for the agent; the machine is read-only."""
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "answer.txt").write_text("42")
    work = tmp_path / "work"
    work.mkdir()
    (work / "runs.jsonl").write_text("outcomes")
    outside = tmp_path / "outside.txt"
    code = f"""
import os
found = []
for path in ({str(suite / "answer.txt")!r}, {str(work / "runs.jsonl")!r}):
    try:
        found.append(open(path).read())
    except OSError:
        pass
spaces = {str(work / "spaces")!r}
found += [n for n in os.listdir(spaces) if n not in os.getcwd()] if os.path.isdir(spaces) else []
try:
    open({str(outside)!r}, "w").write("x")  # goes into a temporary folder of its own
except OSError:
    pass
for path in ("/etc/assay-was-here", os.path.expanduser("~root/x"), os.path.dirname(os.getcwd()) + "/x"):
    try:
        open(path, "w").write("x"); found.append("wrote " + path)
    except OSError:
        pass
for path in ("/tmp/mine", "/var/tmp/mine"):
    open(path, "w").write("x")
open("answer.txt", "w").write(";".join(found) or "nothing")
"""
    run = done(tmp_path, code, "nothing", hidden=(suite,), isolation=level)
    assert run.passed, (run.reason, run.feedback, run.said)
    assert not outside.exists()
    assert not Path("/tmp/mine").exists()
    assert (suite / "answer.txt").read_text() == "42"


@pytest.mark.parametrize("level", LEVELS)
def test_other_processes_and_their_secrets_are_not_seen(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of Assay, in which the keys are, cannot be read from /proc."""
    monkeypatch.setenv("SOME_SECRET", "hush-hush")
    code = """
import os
found = 0
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            found += b"hush-hush" in open(f"/proc/{name}/environ", "rb").read()
        except OSError:
            pass
open("answer.txt", "w").write(str(found))
"""
    run = done(tmp_path, code, "0", isolation=level)
    assert run.passed, run.feedback


@pytest.mark.parametrize("level", LEVELS)
def test_rights_do_not_come_back(tmp_path: Path, level: str) -> None:
    """No capability, no new mount, no way to make the machine writable again, even for root."""
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
caps = [l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapEff", "CapPrm", "CapBnd"))]
tries = [libc.mount(b"none", b"/mnt", b"tmpfs", 0, None), libc.mount(b"none", b"/", None, 4096 | 32, None),
         libc.umount2(b"/tmp", 2)]
open("answer.txt", "w").write(f"{set(caps)} {tries}")
"""
    run = done(tmp_path, code, "{'0000000000000000'} [-1, -1, -1]", isolation=level)
    assert run.passed, run.feedback


@needs_namespace
def test_exit_codes_and_signals_come_through(tmp_path: Path) -> None:
    """An agent's own end is what is recorded."""
    assert done(tmp_path, "import sys; sys.exit(9)", "", isolation="namespace").reason.endswith("9")
    killed = done(tmp_path, "import os; os.kill(os.getpid(), 9)", "", isolation="namespace")
    assert killed.outcome is AgentOutcome.AGENT_ERROR
    assert killed.reason.endswith("137")


@needs_namespace
def test_auto_takes_the_strongest_that_works() -> None:
    """And it is recorded, with the network."""
    found = chosen(AgentCommand(command=("sh",), network=False))
    assert found.level == ("bubblewrap" if WORKS["bubblewrap"] else "namespace")
    assert found.told == f"{found.level}, no network"


def test_a_level_that_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for one by name never gives a weaker one; `auto` falls back and says what it took."""
    monkeypatch.setattr(module, "_why_not", lambda level, network, image: "" if level == "none" else "no")
    with pytest.raises(ComponentMissing, match="bubblewrap: no"):
        chosen(AgentCommand(command=("sh",), isolation="bubblewrap"))
    assert chosen(AgentCommand(command=("sh",))).level == "none"


def test_a_probe_that_gets_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that wraps nothing is told from one that works."""
    monkeypatch.setattr(Isolation, "wrapped", lambda self, command, places, passed, name: tuple(command))
    assert "write outside" in module._tried(Isolation("namespace", network=True), tmp_path, network=True)


def test_docker_by_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container gets the workspace, the named variables and no more; it is removed when its client has ended."""
    calls = tmp_path / "calls"
    calls.mkdir()
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(
        f"#!{sys.executable}\nimport os, sys, subprocess\n"
        f"calls = {str(calls)!r}\n"
        "open(os.path.join(calls, str(len(os.listdir(calls)))), 'w').write(chr(0).join(sys.argv[1:]))\n"
        "if sys.argv[1] == 'run':\n"
        "    os.chdir(sys.argv[sys.argv.index('--workdir') + 1])\n"
        "    sys.exit(subprocess.run(sys.argv[sys.argv.index('some/image') + 1:]).returncode)\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KEY", "value-of-key")
    module._why_not.cache_clear()
    try:
        made = agent(
            tmp_path,
            isolation="auto",
            network=False,
            env=("KEY",),
            options={"image": "some/image", "docker_options": ["--memory", "1g"]},
        )
        runner = AgentRunner(made, rules(tmp_path), tmp_path / "work")
        run = runner.run(task(), "right\n", arm="baseline", rep=1, seed=1)
    finally:
        module._why_not.cache_clear()
    assert runner.isolation == "docker, no network"
    assert run.passed, (run.reason, run.said)
    asked = [p.read_text().split("\0") for p in sorted(calls.iterdir(), key=lambda p: int(p.name))]
    assert asked[0][:2] == ["image", "inspect"]
    started = asked[1]
    assert started[started.index("--network") + 1] == "none"
    assert "KEY" in started
    assert not any("value-of-key" in part for part in started)
    assert started[started.index("--memory") : started.index("--memory") + 2] == ["--memory", "1g"]
    assert asked[-1] == ["rm", "-f", started[started.index("--name") + 1]]


def test_bubblewrap_by_its_command_line(tmp_path: Path) -> None:
    """Read-only machine, hidden folders, writable ones, no network where none is wanted."""
    secret = tmp_path / "secret"
    secret.mkdir()
    run = tmp_path / "run"
    places = Places(run, run / "work", run / "home", run / "told", run / "tmp", hidden=(secret,))
    line = Isolation("bubblewrap", network=False).wrapped(("sh",), places, (), "")
    assert line[0] == "bwrap"
    assert "--unshare-net" in line
    assert "--unshare-net" not in Isolation("bubblewrap", network=True).wrapped(("sh",), places, (), "")
    hides = line.index(str(secret.resolve()))
    assert line[hides - 1] == "--tmpfs"
    assert line.index("--ro-bind") < hides < line.index(str(places.work))
    assert line[-2:] == ("--", "sh")


def test_bwrap_is_the_real_one() -> None:
    """Where bwrap is found, it is the program that is tried and not a name."""
    assert WORKS["bubblewrap"] <= (shutil.which("bwrap") is not None)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("opened", [True, False])
def test_what_an_agent_wrote_does_not_get_out_when_it_is_judged(
    tmp_path: Path, level: str, opened: bool
) -> None:
    """Its program, run by the verifier, reaches no listener and writes nowhere; a judge may be given the network."""
    outside = Path.home() / f"assay-got-out-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = (
            CONNECT.replace("PORT", str(listener.getsockname()[1]))
            + f"""
import os
try:
    open({str(outside)!r}, "w")
    said = "wrote"
except OSError:
    pass
os._exit({{"reached": 0, "not reached": 5, "wrote": 6}}[said])
"""
        )
        code = f"open('program.py', 'w').write({program!r})"
        made = agent(tmp_path, code, isolation=level, network=False, options={"verifier_network": opened})
        runner = AgentRunner(made, rules(tmp_path), tmp_path / "work")
        judged = task(verifier=Verifier(command=(sys.executable, "program.py")))
        run = runner.run(judged, "x", arm="a", rep=1, seed=1)
    assert not outside.exists()
    assert run.passed == opened, run.reason
    assert opened or "exit code 5" in run.reason


@pytest.mark.parametrize("level", LEVELS)
def test_no_process_that_the_agent_can_see_holds_a_secret_of_ours(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its own environment nor that of what was started around it, the first process of the namespace included."""
    monkeypatch.setenv("OUR_SECRET", "do-not-tell-4711")
    monkeypatch.setenv("ITS_KEY", "may-be-seen")
    code = """
import glob, os
seen = b""
for name in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        seen += open(name, "rb").read()
    except OSError:
        pass
found = [x for x in ("do-not-tell", "may-be-seen") if x.encode() in seen]
open("answer.txt", "w").write(" ".join(found))
"""
    run = done(tmp_path, code, "may-be-seen", isolation=level, env=("ITS_KEY",))
    assert run.passed, run.feedback


def inside(tmp_path: Path, *command: str, name: str = "run") -> process.Guarded:
    """A command in namespaces that its guard made."""
    root = tmp_path / name
    places = Places(root, root / "work", root / "home", root / "told", root / "tmp")
    for folder in (places.work, places.home, places.told, places.tmp):
        folder.mkdir(parents=True)
    made = Isolation("namespace", network=True).sandboxed(command, places)
    assert made is not None
    work = Work(label="x", command=command, cwd=str(places.work), log=str(root / "agent.log"))
    env = {"PATH": os.environ["PATH"]}
    grace = process.Grace(normal_s=0.5)
    return process.start(work, root / "status.json", grace, sandbox=made.spec, inherited=env)


@needs_namespace
def test_a_program_that_is_not_there_inside_is_told(tmp_path: Path) -> None:
    """The guard makes the namespaces itself and finds out only there."""
    guarded = inside(tmp_path, sys.executable + "-gone")
    assert process.wait(guarded, 10)
    record = process.read_status(guarded.status)
    assert record is not None
    assert record["exit_code"] == 127
    assert "cannot execute" in (tmp_path / "run" / "agent.log").read_text()


@needs_namespace
@pytest.mark.parametrize("victim", ["guard", "outer", "stopped", "assay"])
def test_nothing_of_a_namespace_outlives_its_guard(tmp_path: Path, victim: str) -> None:
    """Whoever is killed, the guard or our side of the namespaces, all in them ends; daemons as well."""
    script = f"setsid sleep 4{os.getpid()} & sleep 4{os.getpid()} & touch ready; sleep 4{os.getpid()}"
    guarded = inside(tmp_path, "/bin/sh", "-c", script)
    deadline = time.monotonic() + 10
    while not (tmp_path / "run/work/ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    below = psutil.Process(guarded.guard.pid).children(recursive=True)
    assert len(below) >= 5  # two of ours, the shell, and what it started
    if victim == "guard":
        guarded.guard.kill()
    elif victim == "outer":
        below[0].kill()
    elif victim == "assay":  # its end of the pipe closes
        assert guarded.guard.stdin
        guarded.guard.stdin.close()
    else:
        process.stop_guard(guarded.guard, process.Grace(normal_s=0.5))
    _, left = psutil.wait_procs(below, timeout=10)
    for one in left:
        one.kill()
    guarded.guard.wait(10)
    for stream in (guarded.guard.stdin, guarded.guard.stdout):
        if stream:
            stream.close()
    assert not left
