"""Classes 22 to 26: what the events say about checkpoints, beginnings, configuration and the record itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.live import names
from assay.live.classes import Severity
from assay.live.names import number
from assay.live.rules.finding import Finding
from assay.live.thresholds import Thresholds
from assay.live.window import Window

_LR = ("lr", "learning_rate", "max_lr", "lr_max", "peak_lr", "base_lr")
_BATCH = ("batch_size", "batch", "per_device_train_batch_size", "train_batch_size")
_SIZE = ("parameters", "num_parameters", "n_parameters", "params")


def checkpoint_failed(event: Mapping[str, Any]) -> Finding:
    """Class 22: a verification failed."""
    name, level = str(event.get("name")), str(event.get("level") or "digest")
    detail = str(event.get("detail") or "no detail")
    text = f"{name} cannot be resumed from: {detail[:300]}"
    return Finding(22, detail[:300], name, f"verification by {level}", "verified", text, key=name)


def best_mismatch(
    event: Mapping[str, Any], ceilings: Mapping[str, float], senses: Mapping[str, str], primary: str | None,
    t: Thresholds, *, saved: Mapping[str, float] | None = None, newest: Mapping[str, float] | None = None,
) -> Finding | None:  # fmt: skip
    """Class 23: a checkpoint saved as the best does not carry the best value that the log knows.

    Args:
        event: of its commit.
        ceilings: best value of each metric in the log.
        senses: known directions.
        primary: metric that chooses the best.
        t: limits.
        saved: best value of each metric among the checkpoints before it.
        newest: metrics of the newest evaluation. A run that saves every few evaluations cannot save the best of all: a
            checkpoint that carries the newest values is compared with those that were saved.
    """
    metrics = event.get("metrics")
    if event.get("reason") != "best" or not isinstance(metrics, Mapping):
        return None
    known = [str(n) for n in metrics if str(n) in ceilings]
    chosen = primary if primary in known else next(iter(sorted(known, key=_as_best)), None)
    if chosen is None:
        return None
    value, best = number(metrics[chosen]), ceilings[chosen]
    way = names.sense(chosen, senses)
    if value is None or way is None:
        return None
    told = (newest or {}).get(chosen)
    if told is not None and abs(told - value) <= t.best_tolerance * max(abs(told), 1e-12):
        best = (saved or {}).get(chosen, value)
    worse = value - best if way == "min" else best - value
    if worse <= t.best_tolerance * max(abs(best), 1e-12):
        return None
    text = (
        f"{event.get('name')} was saved as the best with {chosen} {value:.6g}; the best known is {best:.6g}"
    )
    return Finding(23, value, best, f"{chosen} of the best checkpoint", best, text, key="best")


def _as_best(name: str) -> tuple[bool, bool, str]:
    return (not names.held_out(name), not names.is_loss(name), name)


def pointers(outside: Mapping[str, Any], newest: str | None) -> list[Finding]:
    """Class 23: what the pointers on disk say against the events."""
    found: list[Finding] = []
    for name in _texts(outside.get("missing_checkpoints")):
        text = f"checkpoint {name} is in the record and not on disk"
        found.append(Finding(23, "missing", name, "folder of the checkpoint", "present", text, key=name))
    last = outside.get("last_checkpoint")
    if isinstance(last, str) and newest is not None and last != newest:
        text = f"`last` points to {last}; the newest committed checkpoint is {newest}"
        found.append(Finding(23, last, newest, "pointer `last`", newest, text, key="last"))
    return found


def _texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else []


def start_differs(own: Sequence[float], other: Sequence[float], t: Thresholds, whose: str) -> Finding | None:
    """Class 24: the first losses of two runs of one seed and configuration differ."""
    for index, (a, b) in enumerate(zip(own, other, strict=False)):
        if abs(a - b) > t.start_tolerance * max(abs(a), abs(b), 1e-12):
            text = f"loss {index + 1} is {a:.9g}, {whose} had {b:.9g} with the same seed and configuration"
            return Finding(24, a, b, f"first {t.start_losses} losses", t.start_tolerance, text)
    return None


def edited(frozen: Any, running: Any) -> Finding | None:
    """Class 25: the configuration's digest at the start is not the frozen one."""
    if not (isinstance(frozen, str) and isinstance(running, str)) or frozen == running:
        return None
    if not frozen or not running:
        return None  # nothing was frozen yet, or nothing is there: the script freezes what it starts with
    text = "config.yaml was edited after it was frozen"
    return Finding(25, running, frozen, "digest of the configuration", frozen, text, key="digest")


def changed_config(frozen: Any, running: Any) -> Finding | None:
    """Class 25: the configuration that training started with differs from the frozen one."""
    if not (isinstance(frozen, Mapping) and isinstance(running, Mapping)):
        return None
    changed = sorted(str(k) for k in frozen if k in running and _differs(frozen[k], running[k]))
    if not changed:
        return None
    key = changed[0]
    text = f"started with {key} = {running.get(key)!r}, frozen as {frozen.get(key)!r}"
    text += f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return Finding(25, str(running.get(key))[:100], str(frozen.get(key))[:100], f"{key} as frozen", None, text,
                   key=f"config {key}")  # fmt: skip


def _differs(a: Any, b: Any) -> bool:
    x, y = number(a), number(b)
    return x != y if x is not None and y is not None else a != b


def _frozen(config: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    for level in (config, *(v for v in config.values() if isinstance(v, Mapping))):
        for key in keys:
            value = number(level.get(key))
            if value is not None:
                return value
    return None


def rate_drift(w: Window, config: Mapping[str, Any], t: Thresholds) -> Finding | None:
    """Class 25: the learning rate exceeds the frozen one, or stood at another value all along."""
    frozen, track = _frozen(config, _LR), w.signal("lr")
    if frozen is None or frozen <= 0 or track.count < t.warmup:
        return None
    peak = _frozen(config, ("max_lr", "lr_max", "peak_lr")) or frozen
    highest = track.highest
    too_high = highest > max(frozen, peak) * (1 + t.drift_tolerance)
    other = not w.lr_changed and highest < frozen * (1 - t.drift_tolerance)
    if not (too_high or other):
        return None
    text = f"the learning rate is {highest:.4g}, the frozen configuration says {frozen:.4g}"
    return Finding(25, highest, frozen, "learning rate as frozen", t.drift_tolerance, text, key="lr")


def size_drift(facts: Mapping[str, Any], config: Mapping[str, Any], t: Thresholds) -> list[Finding]:
    """Class 25: batch size or number of parameters at run time against the frozen configuration."""
    found: list[Finding] = []
    for key, keys, seen in (
        ("batch_size", _BATCH, number(facts.get("batch_size"))),
        ("parameters", _SIZE, number(facts.get("elements"))),
    ):
        frozen = _frozen(config, keys)
        if frozen and seen is not None and abs(seen - frozen) > t.drift_tolerance * frozen:
            text = f"{key} is {seen:g}, the frozen configuration says {frozen:g}"
            found.append(Finding(25, seen, frozen, f"{key} as frozen", t.drift_tolerance, text, key=key))
    return found


def times_impossible(w: Window, t: Thresholds) -> Finding | None:
    """Class 26: rows that no clock can have stamped."""
    if w.backwards:
        text = f"time ran backwards in {w.backwards} rows of one attempt"
        return Finding(
            26, w.backwards, 0, "rows whose time is before the row before", 0, text, key="backwards"
        )
    if w.gaps.count >= 20:
        longest = max(w.gaps.tail(20))
        if longest < t.least_step_s:
            text = f"20 steps were logged {longest:.1e} s apart at most: no training is that fast"
            return Finding(
                26, longest, t.least_step_s, "seconds between rows", t.least_step_s, text, key="times"
            )
    return None


def bypassed(text: str, observed: str, rule: str, key: str, severity: Severity | None = None) -> Finding:
    """Class 26: the record contradicts itself."""
    return Finding(26, observed, None, rule, None, text, key=key, severity=severity)
