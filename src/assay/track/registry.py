"""registry.json (schema 1 of the older layout) and CHECKLIST.md, both derived from the folders of the experiments.

They can be deleted at any time: the next `refresh` writes them again. An experiment of the older layout without
events keeps the entry that registry.json had of it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from assay.track import directions, experiments, files

VERSION = 1
CELL = 70
EMPTY = "—"
COLUMNS = ("Exp", "Parent", "Status", "Hypothesis", "Metric", "Δ vs parent", "Tier", "Top shortfall")
OLD_TIERS = ("fail", "could_pass", "should_pass", "must_pass")
TIER_IN_OLD_WORDS = {"fail": "fail", "floor": "could_pass", "goal": "should_pass", "stretch": "must_pass"}
"""Our tiers in the words, and in the order, of the older code (its texts use them the other way round)."""
FRESH_S = 2.0
_OLD_STATUS = {
    "planned": "running", "running": "running", "stopping": "running", "trained": "running", "evaluated": "running",
    "complete": "complete", "overridden": "complete", "failed": "failed", "crashed": "failed", "lost": "failed",
    "aborted": "aborted",
}  # fmt: skip


_LIVE = ("running", "stopping")
_ENDS = {"completed": "complete", "failed": "failed", "aborted": "aborted", "overridden": "overridden"}


def refresh(root: Path, *, whole: bool = False) -> dict[str, Any]:
    """Derive registry.json and CHECKLIST.md; entries whose files did not change since are kept as they stand.

    Args:
        root: folder of the experiments.
        whole: read every experiment again.

    Raises:
        OSError: if the root is not writable.
    """
    with files.folder_lock(root, ".registry.lock"):
        known = files.read_object(root / "registry.json") or {}
        made = derive(root, known, stamp=None if whole else _modified(root / "registry.json"))
        data = (json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
            "utf-8", "replace"
        )
        files.write_atomic(root / "registry.json", data)
        text = checklist(made).encode("utf-8", "replace")
        files.write_atomic(root / "CHECKLIST.md", text, sync=False)
    return made


def derive(root: Path, known: Mapping[str, Any], *, stamp: float | None = None) -> dict[str, Any]:
    """The registry of a root; `known` is the one that lies there, `stamp` when it was written (None: trust nothing)."""
    listed = known.get("experiments")
    before = (
        {e["id"]: e for e in listed if isinstance(e, dict) and isinstance(e.get("id"), str)}
        if isinstance(listed, list)
        else {}
    )
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({*experiments.ids(root), *before}, key=lambda n: (len(n), n)):
        old = before.get(name)
        folder = root / name
        if not (folder / "events.jsonl").is_file():
            if old is not None:
                found[name] = old
            continue
        settled = old is not None and old.get("status") != "running" and stamp is not None
        if settled and _newest(folder) < (stamp or 0.0) - FRESH_S:
            found[name] = dict(old or {})
        else:
            found[name] = entry(folder)
    ordered = sorted(found.values(), key=lambda e: (str(e.get("created", "")), str(e["id"])))
    _deltas({e["id"]: e for e in ordered})
    project = known.get("project")
    created = known.get("created")
    return {
        "schema_version": VERSION,
        "project": project if isinstance(project, str) and project else _project(root),
        "created": created if isinstance(created, str) and created else files.utc(),
        "experiments": ordered,
    }


def entry(folder: Path) -> dict[str, Any]:
    """One experiment in the words of the older registry, from its own files."""
    events = files.read_events(folder)
    created = next((e for e in events if e["event"] == "created"), {})
    hypothesis = [e for e in events if e["event"] == "hypothesis"]
    return {
        "id": folder.name,
        "phase": str(created.get("phase") or "train"),
        "parent_id": created.get("parent") if isinstance(created.get("parent"), str) else None,
        "created": str(created.get("time") or (events[0].get("time") if events else "")),
        "hypothesis": str(hypothesis[-1].get("text", "")) if hypothesis else "",
        "rationale": _section(folder / "hypothesis.md", "rationale"),
        "status": _OLD_STATUS[state(events)],
        "result": _result(folder, events, created),
        "next_ideas": next_ideas(folder / "next.md"),
        "artifacts_dir": folder.name,
    }


def state(events: Sequence[Mapping[str, Any]]) -> str:
    """Where an experiment stands: what `core.experiment_state` folds, for a process that must not load it.

    tests/contracts/test_experiment_files.py holds the two against each other.
    """
    now, attempts = "planned", dict[int, Mapping[str, Any]]()
    for event in events:
        kind, told = event["event"], event.get("attempt")
        attempt = told if _whole(told) else 0
        if kind in _ENDS:
            return _ENDS[kind]
        if kind == "attempt_started":
            if attempt > max(attempts, default=0):
                now, attempts[attempt] = "running", event
        elif kind == "stop_requested":
            now = "stopping" if now == "running" else now
        elif kind == "training_ended" and attempt in attempts and now in _LIVE:
            now = "trained" if event.get("reason") in ("completed", "stopped") else "crashed"
        elif kind == "attempt_ended" and attempt in attempts and attempt == max(attempts):
            now = _after_the_process(now, event)
        elif kind == "result" and now == "trained":
            now = "evaluated"
    if now in _LIVE and experiments.alive(attempts[max(attempts)]) is False:
        return "lost"
    return now


def _after_the_process(now: str, event: Mapping[str, Any]) -> str:
    """The state when the process of the newest attempt has ended."""
    trained = now in ("trained", "evaluated")
    if now not in _LIVE and not trained:
        return now
    outcome, code = event.get("outcome"), event.get("exit_code")
    if outcome in ("lost", "stopped"):
        return now if trained else "lost" if outcome == "lost" else "crashed"
    if outcome != "exited" or (_whole(code) and code != 0):
        return "crashed"
    return now if trained else "trained"


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def parent_for(root: Path, parent: str | None, *, phase: str, plan: Mapping[str, Any]) -> str | None:
    """The parent of a new experiment: as named, or the best or last complete one.

    Raises:
        ValueError: if an id is named that does not exist.
    """
    wish = (parent or "auto").strip()
    if wish == "none":
        return None
    if wish not in ("auto", "best", "last"):
        if not (root / wish).is_dir():
            raise ValueError(
                f"no experiment {wish!r} in {root} (known: {', '.join(experiments.ids(root)) or 'none'})"
            )
        return wish
    known = derive(
        root, files.read_object(root / "registry.json") or {}, stamp=_modified(root / "registry.json")
    )
    complete = [e for e in known["experiments"] if e.get("status") == "complete" and e.get("phase") == phase]
    primary = plan.get("primary_metric") or {}
    scored = [e for e in complete if _value(e, primary.get("name")) is not None]
    if scored and wish != "last":
        sign = -1.0 if directions.direction_of(primary["name"], plan) == "min" else 1.0
        return str(max(scored, key=lambda e: sign * (_value(e, primary["name"]) or 0.0))["id"])
    return str(complete[-1]["id"]) if complete and wish != "best" else None


def lineage(entries: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Ids from the root to the experiment; a cycle ends where it closes."""
    parents = {str(e["id"]): e.get("parent_id") for e in entries}
    way: list[str] = []
    at: Any = name
    while isinstance(at, str) and at in parents and at not in way:
        way.append(at)
        at = parents[at]
    return way[::-1]


def checklist(registry: Mapping[str, Any]) -> str:
    """CHECKLIST.md of a registry, in the columns of the older layout."""
    entries = registry.get("experiments") or []
    lines = [
        f"# Experiments: {cell(registry.get('project'))}",
        "",
        f"{len(entries)} experiment{'' if len(entries) == 1 else 's'}. Auto-generated, do not edit.",
        "",
    ]
    if not entries:
        return "\n".join([*lines, "No experiments yet", ""])
    lines += [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
    lines += [_row([cell(c) for c in _cells(e)]) for e in entries]
    ideas: list[Any] = next((e["next_ideas"] for e in reversed(entries) if e.get("next_ideas")), [])
    if ideas:
        lines += ["", "## Next planned", "", *(f"- {cell(idea, 10 * CELL)}" for idea in ideas)]
    return "\n".join([*lines, ""])


def cell(value: Any, limit: int = CELL) -> str:
    """A cell of a Markdown table: one line, pipes escaped, shortened."""
    text = " ".join(str(value if value is not None else "").split())
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.replace("|", "\\|") or EMPTY


def next_ideas(path: Path) -> list[str]:
    """Ideas of next.md: the first bullet of each `## exp-…` section, else the bullets under the title."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    bullet = re.compile(r"(?m)^\s*[-*+]\s+(?P<idea>\S.*)$")
    sections = re.split(r"(?m)^##\s+exp-\S*.*$", text)[1:]  # `exp-NNN+1`, the template's own form, counts
    firsts = [found["idea"].strip() for s in sections if (found := bullet.search(s))]
    return firsts or [m["idea"].strip() for m in bullet.finditer(text)]


def front_matter(text: str) -> dict[str, Any]:
    """Front matter of a Markdown file: nested `key: value` and `{a: b}`, nothing else of YAML; {} if there is none."""
    found = re.match(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", text, flags=re.DOTALL)
    top: dict[str, Any] = {}
    levels: list[tuple[int, dict[str, Any]]] = [(-1, top)]
    for line in (found[1] if found else "").splitlines():
        parts = re.match(r"^(\s*)([^:#\s][^:]*):(?:\s+(.*))?$", line)
        if not parts:
            continue
        indent, key, value = len(parts[1]), parts[2].strip().strip("'\""), (parts[3] or "").strip()
        while levels[-1][0] >= indent:
            levels.pop()
        if value:
            levels[-1][1][key] = _scalar(value)
        else:
            inner: dict[str, Any] = {}
            levels[-1][1][key] = inner
            levels.append((indent, inner))
    return top


def _scalar(text: str) -> Any:
    if text.startswith("{") and text.endswith("}"):
        pairs = (part.partition(":") for part in text[1:-1].split(",") if ":" in part)
        return {key.strip().strip("'\""): _scalar(value.strip()) for key, _, value in pairs}
    text = re.sub(r"\s+#.*$", "", text)
    if text in ("null", "~", ""):
        return None
    try:
        number = float(text)
    except ValueError:
        return text.strip("'\"")
    return number if number - number == 0.0 else None


def _result(folder: Path, events: list[dict[str, Any]], created: Mapping[str, Any]) -> dict[str, Any] | None:
    recorded = [e for e in events if e["event"] == "result"]
    text = _text(folder / "result.md")
    front = front_matter(text)
    primary = recorded[-1].get("primary") if recorded else front.get("primary_metric")
    if not isinstance(primary, Mapping) or not isinstance(primary.get("name"), str):
        return None
    value = _finite(primary.get("value"))
    if value is None:
        return None
    secondary = (recorded[-1].get("metrics") if recorded else None) or front.get("secondary_metrics")
    secondary = secondary if isinstance(secondary, Mapping) else {}
    cleaned = {str(k): v for k, raw in secondary.items() if (v := _finite(raw)) is not None}
    shortfalls = re.split(r"(?mi)^##\s*shortfalls\b.*$", text)[1:]
    bullets = (
        re.findall(r"(?m)^\s*[-*+]\s+(\S.*)$", re.split(r"(?m)^##\s", shortfalls[0])[0]) if shortfalls else []
    )
    return {
        "oracle_tier": _tier(recorded, front, value, created),
        "primary_metric": {"name": primary["name"], "value": value, "delta_vs_parent": _given_delta(front)},
        "secondary_metrics": {k: v for k, v in cleaned.items() if k != primary["name"]},
        "shortfalls": [b.strip() for b in bullets],
        "evaluated_at": str(recorded[-1]["time"] if recorded else front.get("evaluated_at") or ""),
    }


def _tier(
    recorded: list[dict[str, Any]], front: Mapping[str, Any], value: float, created: Mapping[str, Any]
) -> str:
    """The recorded tier, else the one that value and thresholds give, else the claim of result.md."""
    told = recorded[-1].get("tier") if recorded else None
    if told in TIER_IN_OLD_WORDS:
        return TIER_IN_OLD_WORDS[told]
    plan = created.get("plan") if isinstance(created.get("plan"), Mapping) else {}
    primary = (plan or {}).get("primary_metric") or {}
    limits = primary.get("thresholds") if isinstance(primary, Mapping) else None
    if isinstance(limits, Mapping) and limits:
        lower = primary.get("direction") == "min"
        reached = "fail"
        for tier in experiments.TIERS:
            limit = _finite(limits.get(tier))
            if limit is not None and (value <= limit if lower else value >= limit):
                reached = tier
        return TIER_IN_OLD_WORDS[reached]
    claimed = front.get("oracle_tier")
    return claimed if claimed in OLD_TIERS else "fail"


def _given_delta(front: Mapping[str, Any]) -> float | None:
    primary = front.get("primary_metric")
    return _finite(primary.get("delta_vs_parent")) if isinstance(primary, Mapping) else None


def _deltas(entries: Mapping[str, dict[str, Any]]) -> None:
    """Fill each missing Δ against the nearest ancestor that is complete and has the same metric."""
    listed = list(entries.values())
    for item in listed:
        primary = (item.get("result") or {}).get("primary_metric") or {}
        if primary.get("delta_vs_parent") is not None or _finite(primary.get("value")) is None:
            continue
        for name in reversed(lineage(listed, str(item["id"]))[:-1]):
            other = entries[name]
            base = _value(other, primary.get("name")) if other.get("status") == "complete" else None
            if base is not None:
                primary["delta_vs_parent"] = primary["value"] - base
                break


def _value(item: Mapping[str, Any], metric: Any) -> float | None:
    primary = (item.get("result") or {}).get("primary_metric") or {}
    return _finite(primary.get("value")) if metric is not None and primary.get("name") == metric else None


def _cells(item: Mapping[str, Any]) -> list[Any]:
    result = item.get("result") or {}
    primary = result.get("primary_metric") or {}
    value, delta = _finite(primary.get("value")), _finite(primary.get("delta_vs_parent"))
    return [
        item.get("id"),
        item.get("parent_id"),
        item.get("status"),
        item.get("hypothesis"),
        "" if value is None else f"{primary.get('name')}={value:g}",
        "" if delta is None else f"{delta:+g}",
        result.get("oracle_tier"),
        next(iter(result.get("shortfalls") or []), ""),
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _section(path: Path, title: str) -> str:
    parts = re.split(rf"(?mi)^##\s*{title}\b.*$", _text(path))
    return " ".join(re.split(r"(?m)^##?\s", parts[1])[0].split()) if len(parts) > 1 else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number - number == 0.0 else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _newest(folder: Path) -> float:
    names = ("events.jsonl", "result.md", "next.md", "hypothesis.md")
    return max((_modified(folder / name) or 0.0 for name in names), default=time.time())


def _project(root: Path) -> str:
    parts = [p for p in (root, *root.parents) if p.name not in ("experiments", ".assay", ".zo", "")]
    return parts[0].name if parts else "assay"
