"""Classes 17 to 21: whether the process lives and moves, and what its steps cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from assay.live.classes import Severity
from assay.live.names import number
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds
from assay.live.window import Track, Window, median


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def silence_budget_s(w: Window, t: Thresholds, phase: str | None, longest_evaluation_s: float = 0.0) -> float:
    """Seconds without a row that are still no stall, for a phase."""
    gaps = list(w.gaps.values)
    usual = max(t.stall_s, t.stall_over_p95 * _quantile(gaps, 0.95))
    if w.row == 0 or phase in ("init", "setup"):
        return max(usual, t.stall_init_s)
    if phase in ("eval", "evaluate", "evaluation", "validation", "test"):
        return max(usual, t.stall_eval_s, 5 * longest_evaluation_s)
    if phase in ("checkpoint", "save"):
        return max(usual, t.stall_checkpoint_s)
    if phase == "compile":
        return max(usual, t.stall_compile_s)
    return usual


def stall(w: Window, t: Thresholds, now: float, outside: Mapping[str, Any]) -> Judged:
    """Class 17: no row for far longer than rows take, in a process that lives."""
    last = number(outside.get("last_row_time"))
    last = last if last is not None else w.wall
    phase = outside.get("phase")
    since = number(outside.get("phase_since"))
    if since is not None and (last is None or since > last):
        last = since
    if last is None or outside.get("ended") is True or outside.get("alive") is False:
        return None
    longest = number(outside.get("longest_evaluation_s")) or 0.0
    budget = silence_budget_s(w, t, phase if isinstance(phase, str) else None, longest)
    silent = now - last
    if silent <= budget:
        return CLEAR
    where = f" in phase {phase}" if isinstance(phase, str) else ""
    text = f"no step for {silent:.0f} s{where}; rows usually come every {median(w.gaps.values):.3g} s"
    return Finding(17, silent, median(w.gaps.values), "seconds without a row", budget, text)


def process_lost(outside: Mapping[str, Any]) -> Judged:
    """Class 18: the process is gone and never said that it ended."""
    if outside.get("ended") is True:
        return None
    if outside.get("boot_changed") is True:
        text = "the machine was started again while the attempt ran"
        return Finding(18, "another boot", None, "boot id of the attempt", "same", text, certain=True)
    alive = outside.get("alive")
    if alive is False:
        code = outside.get("exit")
        how = f" ({code})" if code is not None else ""
        text = f"the process is gone{how} and no end of training was written"
        return Finding(18, "gone", None, "process of the attempt", "alive", text, certain=True)
    return CLEAR if alive is True else None


def contention(w: Window, t: Thresholds) -> float:
    """Share of the processor time it wanted that the training thread did not get; 0 if it got most of it, or unknown."""
    track = w.signal("contended")
    if not track.rows or w.row - track.rows[-1] > t.contended_rows:
        return 0.0
    share = median(track.tail(5))
    return min(share, MOST_CONTENDED) if share >= t.contended_share else 0.0


MOST_CONTENDED = 0.9


def _quiet(steps: list[float], waits: list[float], cpus: list[float], share: float) -> list[float]:
    """Step times without the time in which the thread could have run and another process did."""
    if not share or len(cpus) != len(steps):
        return steps
    queued = share / (1 - share)
    return [
        min(s, max(s - c * queued, d + c))
        for s, d, c in zip(steps, waits or [0.0] * len(steps), cpus, strict=True)
    ]


def starvation(w: Window, t: Thresholds) -> Judged:
    """Class 19: the step waits for its data."""
    wait, step = w.signal("data_wait_s"), w.signal("step_s")
    if not (wait.fresh(w.row) and step.fresh(w.row)) or wait.count < t.starvation_window + t.starvation_rows:
        return None
    size = t.starvation_window
    waits, steps = wait.tail(size + t.starvation_rows - 1), step.tail(size + t.starvation_rows - 1)
    taken = contention(w, t)
    steps = _quiet(steps, waits, w.signal("step_cpu_s").tail(len(steps)), taken)
    share = 0.0
    for end in range(size, len(waits) + 1)[::-1]:
        # On a busy machine a fetch is sometimes interrupted for long: the usual wait counts there, not the mean.
        waited = size * median(waits[end - size : end]) if taken else sum(waits[end - size : end])
        # Whether the step's time includes the wait depends on the host: the larger reading is the milder one.
        whole = max(sum(steps[end - size : end]), waited)
        here = waited / whole if whole > 0 else 0.0
        if here <= t.starvation_frac or waited / size < t.starvation_wait_s:
            return CLEAR
        share = share or here
    text = f"{share:.0%} of the step is waiting for data ({median(waits) * 1000:.1f} ms)"
    return Finding(19, share, median(steps), f"share of {size} steps", t.starvation_frac, text,
                   since=t.starvation_rows - 1)  # fmt: skip


def _work(w: Window, t: Thresholds, n: int) -> list[float]:
    """Step times without the wait for data, newest last."""
    step, wait = w.signal("step_s"), w.signal("data_wait_s")
    steps, waits = step.tail(n), wait.tail(n)
    if len(waits) != len(steps):
        waits = []
    steps = _quiet(steps, waits, w.signal("step_cpu_s").tail(len(steps)), contention(w, t))
    if not waits:
        return steps
    return [max(s - d, 0.0) if s >= d else s for s, d in zip(steps, waits, strict=True)]


def _slow(values: list[float], baseline: float, t: Thresholds) -> float | None:
    """The mildest of the newest medians over the baseline if all of them are too slow."""
    size, worst = t.throughput_window, float("inf")
    if len(values) < size + t.throughput_rows - 1 or baseline <= 0:
        return None
    for back in range(t.throughput_rows):
        end = len(values) - back
        middle = median(values[end - size : end])
        worst = min(worst, middle / baseline)
        if middle / baseline <= t.throughput_ratio or middle - baseline < t.throughput_step_s:
            return None
    return worst


def throughput(w: Window, t: Thresholds) -> Judged:
    """Class 20: steps got slower. Wall time alone is a hint: another process may take the processor."""
    step, cpu = w.signal("step_s"), w.signal("step_cpu_s")
    first = t.throughput_skip_rows + t.throughput_baseline_rows
    if not step.fresh(w.row) or step.count < first + t.throughput_window + t.throughput_rows:
        return None
    needed = t.throughput_window + t.throughput_rows
    base = _first_work(w, t)
    by_cpu = (
        _slow(cpu.tail(needed), _baseline(cpu, t), t) if cpu.fresh(w.row) and cpu.count >= first else None
    )
    by_wall = _slow(_work(w, t, needed), base, t)
    busy = contention(w, t) > 0
    if by_wall is None and (by_cpu is None or not busy):
        return CLEAR
    # Who shares a core shares its caches as well: on a busy machine even processor time is a hint only.
    if by_cpu is not None:
        text = f"a step takes {by_cpu:.1f} x the processor time of the first ones"
        return Finding(20, by_cpu, _baseline(cpu, t), "processor time of a step over baseline", t.throughput_ratio,
                       text, severity=Severity.INFO if busy else None, since=t.throughput_rows - 1)  # fmt: skip
    assert by_wall is not None
    quiet = not busy and w.signal("contended").count > 0
    text = f"a step takes {by_wall:.1f} x as long as the first ones, without more processor time"
    return Finding(20, by_wall, base, "wall time of a step over baseline", t.throughput_ratio, text,
                   severity=None if quiet else Severity.INFO, since=t.throughput_rows - 1)  # fmt: skip


def _first_work(w: Window, t: Thresholds) -> float:
    """Usual time of a first step, without what other processes took of it."""
    step, cpu, first = w.signal("step_s"), w.signal("step_cpu_s"), w.signal("contended").first
    if first is None or first < t.contended_share or len(cpu.opening) != len(step.opening):
        return _baseline(step, t)
    quiet = _quiet(step.opening, [], cpu.opening, min(first, MOST_CONTENDED))
    return median(quiet[t.throughput_skip_rows : t.throughput_skip_rows + t.throughput_baseline_rows])


def _baseline(track: Track, t: Thresholds) -> float:
    return median(track.opening[t.throughput_skip_rows : t.throughput_skip_rows + t.throughput_baseline_rows])


def memory_leak(w: Window, t: Thresholds, limit: float | None, watched: Track | None = None) -> Judged:
    """Class 21: memory rises steadily and will pass the limit before the end. `watched` = samples from outside."""
    track = w.signal("rss_bytes") if watched is None else watched
    limit = t.memory_limit_bytes or limit
    if limit is None or (watched is None and (not track.fresh(w.row) or w.row <= t.memory_skip_rows)):
        return None
    samples = [(r, v) for r, v in zip(track.rows, track.values, strict=True) if r > t.memory_skip_rows]
    size = _window_rows(samples, t)
    if size is None:
        return None
    highs = _maxima(samples, size, t.memory_windows)
    if len(highs) < t.memory_windows:
        return None
    grown = highs[-1] - highs[0]
    if not (_rises(highs, t) or _climbs(highs)) or grown < t.memory_growth_bytes:
        return CLEAR
    # A leak goes on in the newer half as in the older one; a cache fills and stops.
    half = len(highs) // 2
    if highs[-1] - highs[half] < 0.5 * (highs[half] - highs[0]):
        return CLEAR
    per_row = grown / (size * (t.memory_windows - 1))
    left = None if w.progress is None or w.progress <= 0 else w.row * (1 - w.progress) / w.progress
    projected = highs[-1] + per_row * left if left is not None else None
    if projected is not None and projected <= limit:
        return CLEAR
    if projected is None and highs[-1] < 0.8 * limit:
        return CLEAR
    reach = (limit - highs[-1]) / per_row
    text = f"memory grows by {per_row / 1e6:.2g} MB a step and reaches its limit in {max(reach, 0):.0f} steps"
    observed = projected if projected is not None else highs[-1]
    return Finding(
        21, observed, limit, "bytes projected at the end", limit, text, since=size * t.memory_windows
    )


def _rises(highs: list[float], t: Thresholds) -> bool:
    """Nearly every window is above the one before."""
    return sum(b > a for a, b in pairwise(highs)) >= t.memory_rising


def _climbs(highs: list[float]) -> bool:
    """A staircase: pages are taken in lumps, never given back, and as many in each third as in the others."""
    grown = highs[-1] - highs[0]
    if any(b < a - 0.02 * grown for a, b in pairwise(highs)) or sum(b > a for a, b in pairwise(highs)) < 4:
        return False
    third = (len(highs) - 1) / 3
    marks = [highs[round(i * third)] for i in range(4)]
    return all(b - a >= 0.2 * grown for a, b in pairwise(marks))


def _window_rows(samples: list[tuple[int, float]], t: Thresholds) -> int | None:
    """Rows of a window: as configured, or wider where memory is sampled rarely."""
    if len(samples) < t.memory_windows:
        return None
    apart = max(1, (samples[-1][0] - samples[0][0]) // (len(samples) - 1))
    return max(t.memory_window_rows, apart)


def _maxima(samples: list[tuple[int, float]], size: int, count: int) -> list[float]:
    end = samples[-1][0]
    windows: dict[int, float] = {}
    for row, value in reversed(samples):
        index = (end - row) // size
        if index >= count:
            break
        windows[index] = max(windows.get(index, 0.0), value)
    return [windows[i] for i in sorted(windows, reverse=True)]
