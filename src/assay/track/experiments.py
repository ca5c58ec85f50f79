"""Experiments as folders: where they lie, how an id is reserved, what is written before the first attempt.

Making the folder `exp-NNN` reserves the id: twenty processes that ask at once get twenty ids.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.track import directions, files, system, values

ID = re.compile(r"exp-(\d{3,})")
MINT_LIMIT = 10_000
FINAL = frozenset({"completed", "failed", "aborted", "overridden"})
"""Events after which an experiment takes no further attempt."""
TIERS = ("floor", "goal", "stretch")
DIGEST_PREFIX = "sha256:"


def experiments_root(root: str | Path | None = None) -> Path:
    """Where experiments lie: `root`, else `experiments` in `ASSAY_HOME`, else in the nearest `.assay` upward."""
    if root is not None:
        return Path(root).expanduser().absolute()
    named = os.environ.get("ASSAY_HOME")
    if named:
        return Path(named).expanduser().absolute() / "experiments"
    start = Path.cwd()
    for folder in (start, *start.parents):
        if (folder / ".assay").is_dir():
            return folder / ".assay" / "experiments"
    return start / ".assay" / "experiments"


def ids(root: Path) -> list[str]:
    """Ids of all experiments of a root, by number."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except OSError:
        return []
    return sorted((n for n in names if ID.fullmatch(n)), key=_number)


def mint(root: Path) -> Path:
    """Reserve the next id by making its folder.

    Raises:
        OSError: if the root is not writable.
    """
    root.mkdir(parents=True, exist_ok=True)
    known = [_number(name) for name in ids(root)]
    known += [_number(e["id"]) for e in _listed(root)]
    number = max(known, default=0) + 1
    for _ in range(MINT_LIMIT):
        folder = root / f"exp-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        files.sync_folder(root)
        return folder
    raise FileExistsError(f"no free experiment id in {root}")


def make_plan(
    *,
    primary_metric: str | None = None,
    direction: str | Mapping[str, str] | None = None,
    thresholds: Mapping[str, float | str] | None = None,
    total_steps: int | None = None,
    total_epochs: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The plan as it is recorded; only what was said stands in it.

    Args:
        primary_metric: the one metric that the experiment is judged by.
        direction: of it; or metric → direction for several. Without one its name tells; a name that tells nothing is
            taken as `max`, and that is said on stderr.
        thresholds: of `floor`, `goal`, `stretch`: numbers, or text such as `> 0.9`.
        total_steps: planned.
        total_epochs: planned.
        seed: of the run.

    Raises:
        ValueError: if a direction or a threshold cannot be understood, or they contradict each other.
    """
    plan: dict[str, Any] = {}
    declared = {}
    if isinstance(direction, Mapping):
        declared = {str(name): directions.word(way) for name, way in direction.items()}
        plan["metrics"] = declared
    limits: dict[str, float] = {}
    ways: set[str] = set()
    for tier, value in (thresholds or {}).items():
        if tier not in TIERS:
            raise ValueError(f"unknown threshold {tier!r} (allowed: {', '.join(TIERS)})")
        limits[tier], way = directions.threshold(value)
        ways |= {way} if way else set()
    if primary_metric is None and limits:
        raise ValueError("thresholds need primary_metric: the metric that they are of")
    if primary_metric is not None:
        way = directions.word(direction) if isinstance(direction, str) else declared.get(primary_metric)
        if len(ways | ({way} if way else set())) > 1:
            raise ValueError(f"the thresholds of {primary_metric!r} and its direction contradict each other")
        way = way or next(iter(ways), None)
        if way is None:
            way = directions.infer(primary_metric)
            if directions.guessed(primary_metric):
                told = f"nothing says which way {primary_metric!r} gets better; {way} is taken"
                print(f"assay: {told}. Next: direction='min' or 'max'", file=sys.stderr)
        plan["primary_metric"] = {"name": str(primary_metric), "direction": way}
        if limits:
            plan["primary_metric"]["thresholds"] = limits
    elif isinstance(direction, str):
        raise ValueError("direction needs primary_metric, or is a mapping from metrics to directions")
    counts = {"total_steps": total_steps, "total_epochs": total_epochs, "seed": seed}
    return {**plan, **{key: int(value) for key, value in counts.items() if value is not None}}


def create(
    root: Path,
    *,
    name: str = "",
    parent: str | None = None,
    phase: str = "train",
    plan: Mapping[str, Any] | None = None,
    config: Any = None,
    hypothesis: str | Path | None = None,
) -> Path:
    """Make an experiment: id, config.yaml, hypothesis.md, the events `created` and `hypothesis`, the registry.

    Args:
        root: as `experiments_root` gives it.
        name: for people.
        parent: an id; `None` or `auto`: the best complete experiment of the phase with the same primary metric,
            else its last complete one; `best`, `last`: only that; `none`: no parent.
        phase: of the project, as in the older layout.
        plan: from `make_plan`.
        config: anything; frozen in config.yaml.
        hypothesis: text, or the path of a file that holds it.

    Raises:
        OSError: if the root is not writable or the hypothesis cannot be read.
        ValueError: if the parent does not exist.
    """
    from assay.track import registry  # noqa: PLC0415 - it reads what this module names

    plan = dict(plan or {})
    chosen = registry.parent_for(root, parent, phase=phase, plan=plan)
    written = hypothesis_text(hypothesis)
    folder = mint(root)
    digest = freeze_config(folder, config, plan)
    files.append_event(
        folder,
        "created",
        None,
        {
            "experiment": folder.name,
            "name": values.text(name),
            "parent": chosen,
            "phase": phase,
            "plan": values.plain(plan),
            "config_digest": digest,
        },
    )
    if written:
        write_hypothesis(folder, written, parent=chosen)
        ingest_hypothesis(folder, None, "")
    registry.refresh(root)
    return folder


def freeze_config(folder: Path, config: Any, plan: Mapping[str, Any]) -> str:
    """Write config.yaml (JSON is YAML) unless it is there; the digest of what lies there, empty if nothing does."""
    path = folder / "config.yaml"
    if config is not None and not path.exists():
        cleaned = values.plain(config)
        content = dict(cleaned) if isinstance(cleaned, dict) else {"config": cleaned}
        if "seed" in plan:
            content.setdefault("seed", plan["seed"])
        files.write_atomic(path, _document(content))
    return digest_of(path)


def config_digest(config: Any) -> str:
    """Digest of a configuration as `freeze_config` would write it."""
    cleaned = values.plain(config)
    return (
        DIGEST_PREFIX
        + hashlib.sha256(_document(cleaned if isinstance(cleaned, dict) else {"config": cleaned})).hexdigest()
    )


def digest_of(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes; empty if it cannot be read."""
    try:
        return DIGEST_PREFIX + hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def hypothesis_text(hypothesis: str | Path | None) -> str:
    """The text itself, or what the file holds that it names.

    Raises:
        OSError: if a path was given and cannot be read.
    """
    if hypothesis is None:
        return ""
    if isinstance(hypothesis, Path):
        return hypothesis.read_text(encoding="utf-8", errors="replace")
    if "\n" not in hypothesis and len(hypothesis) < 1_000 and hypothesis.endswith((".md", ".txt")):
        path = Path(hypothesis).expanduser()
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return hypothesis


def write_hypothesis(folder: Path, text: str, *, parent: str | None = None) -> None:
    """Write hypothesis.md in the old layout, unless one is there; a text with front matter is kept as it is.

    Raises:
        OSError: if it cannot be written.
    """
    path = folder / "hypothesis.md"
    if path.exists():
        return
    body = text.strip()
    if not body.startswith("---"):
        title = "" if re.search(r"(?mi)^#\s*hypothesis\b", body) else "# Hypothesis\n\n"
        front = f"---\nexp_id: {folder.name}\nparent_id: {parent or 'null'}\ncreated: {files.utc()}\n---\n\n"
        body = front + title + body
        if not re.search(r"(?mi)^##\s*rationale\b", body):
            body += "\n\n## Rationale\n"
    files.write_atomic(path, (body + "\n").encode("utf-8", "replace"))


def ingest_hypothesis(folder: Path, attempt: int | None, known: str) -> str:
    """Record hypothesis.md if its digest is another than the known one; its digest, empty if there is no file.

    Raises:
        OSError: if the event cannot be written.
    """
    path = folder / "hypothesis.md"
    try:
        data = path.read_bytes()
    except OSError:
        return known
    digest = DIGEST_PREFIX + hashlib.sha256(data).hexdigest()
    if digest != known:
        claim = first_paragraph(data.decode("utf-8", "replace"))
        files.append_event(
            folder, "hypothesis", attempt, {"digest": digest, "text": values.text(claim, 4_000)}
        )
    return digest


def first_paragraph(markdown: str) -> str:
    """The first paragraph below `# Hypothesis`, else the first of the text; front matter and titles are skipped."""
    body = re.sub(r"\A---\s*\n.*?\n---\s*(\n|\Z)", "", markdown, flags=re.DOTALL)
    found = re.search(r"(?mi)^#\s*hypothesis\b.*$", body)
    if found:
        body = body[found.end() :]
    for block in re.split(r"\n\s*\n", body):
        lines = [line for line in block.strip().splitlines() if not line.lstrip().startswith("#")]
        if lines:
            return " ".join(" ".join(lines).split())
    return ""


def known_hypothesis(events: list[dict[str, Any]]) -> str:
    """Digest of the hypothesis that was recorded last; empty if none was."""
    found = [e.get("digest") for e in events if e["event"] == "hypothesis"]
    return found[-1] if found and isinstance(found[-1], str) else ""


def next_attempt(events: list[dict[str, Any]]) -> int:
    """Number of the attempt after those that were started."""
    started = [e.get("attempt") for e in events if e["event"] == "attempt_started"]
    return max((a for a in started if isinstance(a, int)), default=0) + 1


def start_attempt(folder: Path, *, command: list[str] | None = None, git: bool = True) -> dict[str, Any]:
    """Append `attempt_started` for this process with the next number; the event as written.

    Raises:
        OSError: if the folder is not writable.
        ValueError: if the experiment has ended for good.
    """
    with files.folder_lock(folder, ".attempts.lock"):
        events = files.read_events(folder)
        ends = [e["event"] for e in events if e["event"] in FINAL]
        if ends:
            raise ValueError(f"{folder.name} is {ends[-1]}: what has ended takes no further attempt")
        attempt = next_attempt(events)
        hypothesis = ingest_hypothesis(folder, attempt, known_hypothesis(events))
        return files.append_event(
            folder,
            "attempt_started",
            attempt,
            {
                "command": command,
                "pid": os.getpid(),
                "host": system.host(),
                "boot_id": system.boot_id(),
                "process_started": system.process_started(),
                "config_digest": digest_of(folder / "config.yaml"),
                "hypothesis_digest": hypothesis,
                "resumed_from": None,
                "resumed_step": None,
                "versions": system.versions(),
                "git": system.git() if git else None,
                "by": "tracker",
            },
        )


def request_stop(
    folder: Path, by: str, reason: str, *, checkpoint: bool = True, attempt: int | None = None
) -> None:
    """Ask the training to stop: stop.json, written aside and renamed. The tracker records it when it sees it.

    Args:
        folder: of the experiment.
        by: who asks.
        reason: why.
        checkpoint: whether one is to be saved first.
        attempt: the only one that is meant; None = the one that runs.

    Raises:
        OSError: if the folder is not writable.
    """
    request = {"schema": "stop/1", "time": files.utc(), "by": by, "reason": reason, "checkpoint": checkpoint}
    if attempt is not None:
        request["attempt"] = attempt
    files.write_atomic(folder / "stop.json", files.encode(request))


def seconds(when: Any) -> float | None:
    """Unix seconds of a recorded UTC time; None if it is none."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only a resume and a stop ask

    try:
        found = datetime.fromisoformat(when)
    except (TypeError, ValueError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def alive(started: Mapping[str, Any]) -> bool | None:
    """Whether the process of an `attempt_started` event lives; None if it ran on another host."""
    if started.get("host") != system.host():
        return None
    boot = system.boot_id()
    if started.get("boot_id") and boot and started["boot_id"] != boot:
        return False
    pid = started.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    now, then = system.process_started(pid), started.get("process_started")
    return not (isinstance(then, int | float) and now is not None and abs(now - then) > 2.0)


def elapsed_s(started: Mapping[str, Any]) -> float:
    """Seconds since an event was written; 0 if its time cannot be read or lies ahead."""
    then = seconds(started.get("time"))
    return max(0.0, time.time() - then) if then is not None else 0.0


def _number(name: str) -> int:
    found = ID.fullmatch(name)
    return int(found[1]) if found else 0


def _listed(root: Path) -> list[dict[str, Any]]:
    known = (files.read_object(root / "registry.json") or {}).get("experiments")
    entries = known if isinstance(known, list) else []
    return [e for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)]


def _document(content: Mapping[str, Any]) -> bytes:
    import json  # noqa: PLC0415 - only here with indentation

    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode(
        "utf-8", "replace"
    )
