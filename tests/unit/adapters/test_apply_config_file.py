"""Apply kind `config_file`: what is changed, what is refused, and that undo brings the very bytes back."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from assay import registry
from assay.adapters.apply.config_file import Adapter, Options
from assay.core.decision import Decision
from assay.core.errors import AssayError, ComponentFailed, ComponentMissing, UnreadableInput, UsageError
from assay.core.recommendation import Choice, Inputs, Knobs, Machine, Recommendation, Standing, sealed
from assay.core.study import AdapterRef
from assay.core.vocabulary import Outcome, Verb
from assay.runtime import config_text

CONFIG = b"# ours\nmodel: org/old   # the old one\nkv_bits: 8\napi_token: hf_abcdef\n"
KEYS = {"model": "model", "kv_bits": "knobs.kv_bits", "server.slots": "settings.slots"}


def decision(**changed: Any) -> Decision:
    """An accepted trial with a recommendation among its facts."""
    choice = Choice(
        model="org/new-7B",
        target_context=4000,
        knobs=Knobs(max_concurrency_override=4),
        settings={"slots": 4, "kv_type": "f16"},
        partial=changed.pop("partial", False),
    )
    found = Recommendation(
        run_id="run-1",
        started_at="2026-11-20T10:00:00Z",
        machine=Machine(ram_gb=16, chip="c"),
        inputs=Inputs(target_context=4000, candidate_models=("org/new-7B",)),
        recommendation=changed.pop("choice", choice),
        standing=changed.pop("standing", Standing.RESOLVED),
    )
    facts = {"recommendation": sealed(found).to_json(), **changed.pop("facts", {})}
    return Decision(
        study="s",
        trial="s-1",
        candidate="c",
        candidate_key="k",
        outcome=Outcome.ACCEPT,
        sentence="",
        facts=facts,
    )


def adapter(path: Path, **options: Any) -> Adapter:
    """The adapter as a spec makes it."""
    values = {"path": str(path), "keys": KEYS, **options}
    made: Adapter = registry.adapter(Verb.APPLY, AdapterRef(kind="config_file", options=values))
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file in a folder of our own."""
    path = tmp_path / "config.yaml"
    path.write_bytes(CONFIG)
    path.chmod(0o640)
    return path


def backups(path: Path) -> list[Path]:
    """All backups of a file."""
    return sorted(path.parent.glob(f"{path.name}.bak-*"))


def test_owned_keys_change_and_undo_brings_the_bytes_back(file: Path, tmp_path: Path) -> None:
    """Comments and the token stay, mode stays, the backup is for the owner alone; undo leaves no trace."""
    made = adapter(file)
    token = json.loads(json.dumps(made.plan(tmp_path, decision())))
    assert file.read_bytes() == CONFIG
    assert token["changes"] == [
        "config.yaml: model: org/old → org/new-7B",
        "config.yaml: kv_bits: 8 → unset",
        "config.yaml: server.slots: unset → 4",
    ]
    assert "hf_abcdef" not in json.dumps(token)
    made.apply(tmp_path, decision(), token)
    assert file.read_bytes() == (
        b"# ours\nmodel: org/new-7B   # the old one\napi_token: hf_abcdef\nserver:\n  slots: 4\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (backup,) = backups(file)
    assert backup.read_bytes() == CONFIG
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    made.apply(tmp_path, decision(), token)
    assert backups(file) == [backup]
    for _ in range(2):
        made.undo(token)
        assert file.read_bytes() == CONFIG
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert sorted(tmp_path.iterdir()) == [file]


def test_a_second_application_has_nothing_to_do(file: Path, tmp_path: Path) -> None:
    """What stands there already is not written again, and no backup is made."""
    made = adapter(file)
    made.apply(tmp_path, decision(), made.plan(tmp_path, decision()))
    token = made.plan(tmp_path, decision())
    assert token["changes"] == [f"nothing: {file} says so already"]
    before = file.stat().st_ino
    made.apply(tmp_path, decision(), token)
    assert file.stat().st_ino == before
    assert len(backups(file)) == 1


def test_backups_are_never_written_over(file: Path, tmp_path: Path) -> None:
    """A name that is taken is passed over, whatever lies there."""
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    taken = [tmp_path / f"{token['backup']}-{n}" for n in range(3)]
    for place in taken[:2]:
        place.write_text("not ours")
    taken[2].symlink_to(tmp_path / "elsewhere")
    made.apply(tmp_path, decision(), token)
    assert [p.read_text() for p in taken[:2]] == ["not ours", "not ours"]
    assert (tmp_path / f"{token['backup']}-3").read_bytes() == CONFIG
    assert not (tmp_path / "elsewhere").exists()


def test_it_refuses_when_the_file_moved_on(file: Path, tmp_path: Path) -> None:
    """Between plan and apply, and between apply and undo, somebody else's change is left alone."""
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    file.write_bytes(CONFIG + b"more: 1\n")
    with pytest.raises(UsageError, match="somebody else"):
        made.apply(tmp_path, decision(), token)
    assert file.read_bytes() == CONFIG + b"more: 1\n"
    file.write_bytes(CONFIG)
    made.apply(tmp_path, decision(), token)
    file.write_bytes(b"other: 1\n")
    with pytest.raises(UsageError, match="somebody else"):
        made.undo(token)
    assert file.read_bytes() == b"other: 1\n"


def test_it_refuses_a_file_that_is_not_what_was_judged(file: Path, tmp_path: Path) -> None:
    """The baseline was read from other bytes: the comparison does not hold for these."""
    judged = "sha256:" + "0" * 64
    with pytest.raises(UsageError, match="not what was judged"):
        adapter(file, expects=judged).plan(tmp_path, decision())
    assert adapter(file, expects=judged, force=("changed",)).plan(tmp_path, decision())["after"]


def test_undo_without_the_backup_is_refused(file: Path, tmp_path: Path) -> None:
    """The bytes from before are nowhere: nothing is guessed."""
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    made.apply(tmp_path, decision(), token)
    after = file.read_bytes()
    backups(file)[0].unlink()
    with pytest.raises(UsageError, match="backup is gone"):
        made.undo(token)
    assert file.read_bytes() == after


@pytest.mark.parametrize("changed", [{"standing": Standing.UNRESOLVED}, {"partial": True}])
def test_unresolved_results_need_force(file: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    """What the budget left open is not written unless somebody says so."""
    with pytest.raises(UsageError, match="unresolved"):
        adapter(file).plan(tmp_path, decision(**changed))
    assert adapter(file, force=("unresolved",)).plan(tmp_path, decision(**changed))["after"]


def test_nothing_recommended_is_nothing_to_write(file: Path, tmp_path: Path) -> None:
    """Not even by force."""
    with pytest.raises(UsageError, match="nothing was recommended"):
        adapter(file, force=("unresolved",)).plan(tmp_path, decision(choice=None, standing=None))


def linked(path: Path) -> None:
    """A symbolic link in place of the file."""
    path.rename(path.with_name("real.yaml"))
    path.symlink_to("real.yaml")


DANGERS: Mapping[str, Callable[[Path], None]] = {
    "symlink": linked,
    "hardlink": lambda p: os.link(p, p.with_name("second")),
    "world_writable": lambda p: p.chmod(0o646),
}


@pytest.mark.parametrize("word", sorted(DANGERS))
def test_dangerous_files_need_force(file: Path, tmp_path: Path, word: str) -> None:
    """Refused by name; by force it works, and undo still brings the bytes back."""
    DANGERS[word](file)
    with pytest.raises(UsageError, match=f"'{word}'"):
        adapter(file).plan(tmp_path, decision())
    made = adapter(file, force=(word,))
    token = made.plan(tmp_path, decision())
    adapter(file).apply(tmp_path, decision(), token)
    assert b"org/new-7B" in file.read_bytes()
    assert file.is_symlink() is (word == "symlink")
    adapter(file).undo(token)
    assert file.read_bytes() == CONFIG


def test_a_folder_that_anybody_may_write_needs_force(file: Path, tmp_path: Path) -> None:
    """There, another could put a file in the place of ours."""
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="this folder"):
        adapter(file).plan(tmp_path, decision())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_foreign_file_needs_force_and_keeps_its_owner(file: Path, tmp_path: Path) -> None:
    """A file of the server's own user stays that user's."""
    os.chown(file, 12345, 12345)
    with pytest.raises(UsageError, match="user 12345"):
        adapter(file).plan(tmp_path, decision())
    made = adapter(file, force=("foreign_owner",))
    token = made.plan(tmp_path, decision())
    made.apply(tmp_path, decision(), token)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12345)
    made.undo(token)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12345)
    assert file.read_bytes() == CONFIG


def test_a_link_that_comes_between_is_not_followed(file: Path, tmp_path: Path) -> None:
    """What became a link after the plan is not written through."""
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    linked(file)
    with pytest.raises(UsageError, match="symbolic link"):
        made.apply(tmp_path, decision(), token)
    assert (tmp_path / "real.yaml").read_bytes() == CONFIG


@pytest.mark.parametrize("kind", ["folder", "fifo", "gone"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Nothing hangs on a pipe, and nothing is made where nothing was."""
    path = tmp_path / "config.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(AssayError):
        adapter(path).plan(tmp_path, decision())


def test_a_file_is_made_where_that_is_asked_for(tmp_path: Path) -> None:
    """It is for the owner alone; undo removes it."""
    made = adapter(tmp_path / "new.json", create=True)
    token = made.plan(tmp_path, decision())
    made.apply(tmp_path, decision(), token)
    path = tmp_path / "new.json"
    assert json.loads(path.read_text()) == {"model": "org/new-7B", "server": {"slots": 4}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made.undo(token)
    made.undo(token)
    assert list(tmp_path.iterdir()) == []


def test_the_engines_own_parser_has_the_last_word(file: Path, tmp_path: Path) -> None:
    """It is asked before the new file takes its place: a refusal leaves the old bytes and its own words."""
    script = "import sys; t = open(sys.argv[1]).read(); sys.exit('bad: ' + sys.argv[1] if 'new' in t else 0)"
    made = adapter(file, check=(sys.executable, "-c", script, "{path}"))
    token = made.plan(tmp_path, decision())
    inode = file.stat().st_ino
    with pytest.raises(ComponentFailed, match="bad: "):
        made.apply(tmp_path, decision(), token)
    assert file.stat().st_ino == inode
    assert file.read_bytes() == CONFIG
    assert {p.suffix for p in tmp_path.iterdir()} == {".yaml", f".{backups(file)[0].name.rpartition('.')[2]}"}


def test_a_parser_that_refuses_the_file_at_its_place_gets_the_old_one_back(
    file: Path, tmp_path: Path
) -> None:
    """Some parsers look at the path, too: what they refuse there does not stay."""
    script = f"import sys; sys.exit(sys.argv[1] == {str(file)!r} and 'new' in open(sys.argv[1]).read())"
    made = adapter(file, check=(sys.executable, "-c", script, "{path}"))
    with pytest.raises(ComponentFailed):
        made.apply(tmp_path, decision(), made.plan(tmp_path, decision()))
    assert file.read_bytes() == CONFIG


def test_a_parser_that_is_not_there_is_named(file: Path, tmp_path: Path) -> None:
    """The message names the program."""
    made = adapter(file, check=("no-such-parser-at-all", "{path}"))
    with pytest.raises(ComponentMissing, match="no-such-parser-at-all"):
        made.apply(tmp_path, decision(), made.plan(tmp_path, decision()))
    assert file.read_bytes() == CONFIG


def test_a_field_that_is_not_recommended_names_the_others(file: Path, tmp_path: Path) -> None:
    """A slip in a spec is told with what would have been right."""
    with pytest.raises(UsageError, match=r"settings\.slots"):
        adapter(file, keys={"x": "settings.slot"}).plan(tmp_path, decision())


def test_the_recommendation_may_lie_in_the_judged_artifact(file: Path, tmp_path: Path) -> None:
    """A file of its own: its bytes must be those that were judged."""
    from assay.runtime.files import artifact, write_json  # noqa: PLC0415 - only this test has an artifact

    document = tmp_path / "out" / "recommendation.json"
    write_json(document, decision().facts["recommendation"])
    pinned = artifact(document.parent).to_json()
    judged = decision(facts={"recommendation": None, "artifact": pinned})
    assert adapter(file).plan(document.parent, judged)["after"]
    document.write_text(document.read_text().replace("new-7B", "old-7B"))
    with pytest.raises(UsageError, match="changed since it was judged"):
        adapter(file).plan(document.parent, judged)
    document.write_text("{}")
    damaged = decision(facts={"recommendation": None, "artifact": artifact(document.parent).to_json()})
    with pytest.raises(UnreadableInput, match="run_id"):
        adapter(file).plan(document.parent, damaged)


def test_two_at_once_do_not_meet(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another holds the folder, nothing is changed."""
    monkeypatch.setattr("assay.runtime.owned_file.LOCK_WAIT_S", 0.1)
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process"):
        made.apply(tmp_path, decision(), token)
    os.close(directory)
    made.apply(tmp_path, decision(), token)


CALLS = ("open", "link", "fsync", "rename", "fchmod", "unlink")


def run_and_die(work: Callable[[], None], at: int) -> bool:
    """Run in a child that is killed -9 before its call number `at` to the file system; False if it ended first."""
    child = os.fork()
    if child == 0:
        left = [at]

        def dying(real: Any) -> Any:
            def call(*args: Any, **named: Any) -> Any:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*args, **named)

            return call

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


@pytest.mark.parametrize("verb", ["apply", "undo"])
def test_kill_9_at_each_call_leaves_old_or_new_and_goes_on(file: Path, tmp_path: Path, verb: str) -> None:
    """Killed before any call, the file is whole; the same verb again ends the work, undo brings the bytes back."""
    made = adapter(file)
    at, reached = 0, True
    while reached:
        file.write_bytes(CONFIG)
        token = made.plan(tmp_path, decision())
        if verb == "undo":
            made.apply(tmp_path, decision(), token)
            reached = run_and_die(lambda: made.undo(token), at)  # noqa: B023 - it runs at once
        else:
            reached = run_and_die(lambda: made.apply(tmp_path, decision(), token), at)  # noqa: B023
        new = config_text.edited(CONFIG, "yaml", {tuple(k): v for k, v in token["edits"]})
        assert file.read_bytes() in (CONFIG, new), f"half a file after call {at}"
        if verb == "apply":
            made.apply(tmp_path, decision(), token)
            assert file.read_bytes() == new
            assert len(backups(file)) == 1
        made.undo(token)
        assert sorted(tmp_path.iterdir()) == [file], f"leftovers after call {at}"
        assert file.read_bytes() == CONFIG
        at += 1
    assert at > 5


def test_a_full_disk_leaves_the_old_file(file: Path, tmp_path: Path) -> None:
    """Whatever the system refuses while writing, the target stands and nothing lies beside it."""
    big = b"# " + b"x" * 8000 + b"\n" + CONFIG
    file.write_bytes(big)
    made = adapter(file)
    token = made.plan(tmp_path, decision())
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            made.apply(tmp_path, decision(), token)
        except AssayError:
            os._exit(6)
        except BaseException:  # noqa: BLE001 - a child of a test ends here
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
    assert file.read_bytes() == big
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_a_file_system_that_is_really_full_or_read_only(tmp_path: Path) -> None:
    """On a file system that is full, then read-only: the old bytes, nothing beside, and a message that says so."""
    script = f"""
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_apply_config_file as t
place = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", place], check=True)
file = place / "config.yaml"
file.write_bytes(t.CONFIG)
made = t.adapter(file)
token = made.plan(place, t.decision())
try:
    (place / "filler").write_bytes(b"x" * 70000)
except OSError:
    pass
try:
    made.apply(place, t.decision(), token)
except t.ComponentFailed as error:
    assert "no space" in str(error), error
else:
    sys.exit("it was written")
assert file.read_bytes() == t.CONFIG
assert sorted(p.name for p in place.iterdir()) == ["config.yaml", "filler"]
(place / "filler").unlink()
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
try:
    made.apply(place, t.decision(), token)
except t.UsageError as error:
    assert "cannot write" in str(error), error
else:
    sys.exit("it was written")
assert [p.name for p in place.iterdir()] == ["config.yaml"]
print("held")
"""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no mount of one's own")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if "mount:" in done.stderr:
        pytest.skip("this system gives no mount of one's own")
    assert done.stdout == "held\n", done.stderr


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS, lambda i: st.lists(i, max_size=3) | st.dictionaries(NAMES, i, max_size=3), max_leaves=6
    ),
    max_size=4,
)


def as_bytes(tree: dict[str, Any], format_: str) -> bytes:
    """A tree as another program would write it."""
    if format_ == "json":
        return json.dumps(tree, indent=4, ensure_ascii=False).encode()
    if format_ == "toml":
        return bytes(import_module("tomlkit").dumps(tree).encode())
    if format_ == "env":
        return b"".join(f"export {k}={v}  # {k}\n".encode() for k, v in tree.items() if isinstance(v, int))
    out = io.StringIO()
    YAML(typ="rt").dump(tree, out)
    return out.getvalue().encode() + b"# the end\n"


@pytest.mark.slow
@given(
    format_=st.sampled_from(["yaml", "json", "env", *(["toml"] if find_spec("tomlkit") else [])]), tree=TREES
)
def test_undo_of_apply_is_nothing(tmp_path_factory: pytest.TempPathFactory, format_: str, tree: Any) -> None:
    """undo(apply(x)) == x for every file that is not refused, and apply says what was recommended."""
    folder = tmp_path_factory.mktemp("p")
    path = folder / f"config.{format_}"
    path.write_bytes(as_bytes(tree, format_))
    before = path.read_bytes()
    keys = {k: v for k, v in KEYS.items() if format_ != "env" or "." not in k}
    made = adapter(path, keys=keys)
    try:
        token = made.plan(folder, decision())
    except AssayError:
        assume(False)
    made.apply(folder, decision(), token)
    assert config_text.parsed(path.read_bytes(), made.options.format or format_)["model"] == "org/new-7B"  # type: ignore[arg-type]
    made.undo(token)
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]


def test_options_read_strictly() -> None:
    """An unknown word of force is a spec error that names the known ones."""
    with pytest.raises(UsageError, match="symlink"):
        adapter(Path("x.yaml"), force=("anything",))
    assert Options(path="x").keys["kv_bits"] == "knobs.kv_bits"
