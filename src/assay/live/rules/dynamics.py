"""Classes 1 to 10: what the loss, the gradients, the weights and the learning rate show step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from assay.live import names
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds
from assay.live.window import Track, Window, mad, median

TINY = 1e-12


def sweeping(w: Window, t: Thresholds) -> bool:
    """Whether the learning rate grows by a constant factor a row: a learning-rate finder, meant to end badly."""
    rates = w.signal("lr").tail(t.sweep_rows + 1)
    if len(rates) <= t.sweep_rows or min(rates) <= 0:
        return False
    steps = [math.log(b / a) for a, b in pairwise(rates)]
    middle = median(steps)
    return middle > 0.005 and all(abs(s - middle) <= 0.05 * middle for s in steps)


def nonfinite(w: Window, t: Thresholds) -> Judged:
    """Class 1: a loss, gradient or parameter that is not a finite number."""
    allowed = t.amp_skips_at_start if w.row <= t.warmup else t.amp_skips
    if not w.nonfinite:
        if w.amp_streak <= allowed:
            return CLEAR if w.loss.fresh(w.row) else None
        text = f"the gradient scaler skipped {w.amp_streak} steps in a row"
        return Finding(1, w.amp_streak, allowed, "steps skipped in a row by the scaler", allowed, text)
    name, value = next(iter(sorted(w.nonfinite.items())))
    if w.amp and w.amp_streak <= allowed and "params" not in w.nonfinite and w.fp_loss_streak <= allowed:
        return None
    certain = "params" in w.nonfinite or not w.amp or w.fp_loss_streak > allowed
    others = ", ".join(sorted(w.nonfinite))
    text = f"not finite at step {w.step}: {others}"
    return Finding(
        1, f"{name}={value}", None, "first value that is not finite", "finite", text, certain=certain
    )


def divergence(w: Window, t: Thresholds) -> Judged:
    """Class 2: the progress made is lost again, or the loss stays above where it began."""
    if not w.loss.fresh(w.row) or w.init is None or w.loss.count < 3:
        return None
    if sweeping(w, t):
        return None
    return _fast_divergence(w, t) or _slow_divergence(w, t) or CLEAR


def _fast_divergence(w: Window, t: Thresholds) -> Finding | None:
    jumped = w.lr_jump_row is not None and w.row - w.lr_jump_row <= 20
    rows = t.divergence_jump_rows if jumped else t.divergence_fast_rows
    if w.loss.count < rows + 20 or not all(_is_spike(w, t, back, rows) for back in range(rows)):
        return None
    last, before = w.loss.values[-1], median(w.loss.tail(t.spike_rows, rows))
    if jumped and last < _high_mark(w, t):
        return None
    cause = " after the learning rate jumped" if jumped else ""
    text = (
        f"{rows} losses in a row far above the {t.spike_rows} before{cause}: {last:.4g} against {before:.4g}"
    )
    rule = f"spikes in a row{cause}"
    return Finding(2, last, before, rule, rows, text, since=rows - 1)


def _high_mark(w: Window, t: Thresholds) -> float:
    """Above this a loss after a jump of the rate is no mere noise: the run's best plus most of its progress."""
    init, best = w.init or 0.0, w.best.last or 0.0
    return best + t.divergence_lost * max(init - best, 0.0) + t.divergence_noise * w.noise(50, 1)


def _slow_divergence(w: Window, t: Thresholds) -> Finding | None:
    rows = t.divergence_rows
    if w.loss.count < rows + 5 or w.init is None:
        return None
    levels, bests = w.smooth.tail(rows), w.best.tail(rows)
    # A start that was good already (fine-tuning) is measured against guessing, not against itself.
    init = max(w.init, sum(w.loss.opening[:5]) / 5, t.good_start_frac * (w.chance or 0.0))
    if w.loss.count <= rows + t.warmup:
        # Too short for a noise of its own: only what is far above every start is judged.
        over = init + (t.divergence_early - 1) * abs(init)
        if all(level > over for level in levels):
            text = f"the smoothed loss stands above {t.divergence_early:g} x its first value since the start"
            return Finding(2, levels[-1], init, "smoothed loss over first loss", over, text, since=rows - 1)
        return None
    # Noise of the time before the trouble, so that a wild end does not excuse itself.
    rise = t.divergence_noise * max(w.noise(50, rows), TINY)
    over = init + max((t.divergence_over_init - 1) * abs(init), rise)
    if all(level > over for level in levels):
        text = f"the smoothed loss stood above {t.divergence_over_init:g} x its first value for {rows} rows"
        return Finding(2, levels[-1], init, "smoothed loss over first loss", over, text, since=rows - 1)
    lost = [
        (level - best) / max(init - best, TINY) if level - best > rise else 0.0
        for level, best in zip(levels, bests, strict=True)
    ]
    # A start that was good already has no progress to lose: its noise is all there is.
    learned = init - bests[-1] > max(2 * rise, 0.05 * abs(init))
    if learned and all(share > t.divergence_lost for share in lost):
        text = f"{lost[-1]:.0%} of the progress was lost and stayed lost for {rows} rows"
        reference = f"first {init:.4g}, best {bests[-1]:.4g}"
        return Finding(
            2, lost[-1], reference, "(level-best)/(first-best)", t.divergence_lost, text, since=rows - 1
        )
    return None


def _is_spike(w: Window, t: Thresholds, back: int = 0, skip: int = 1) -> bool:
    """Whether the loss `back` rows ago stood far above those before the newest `skip`."""
    before = w.loss.tail(t.spike_rows, max(skip, back + 1))
    if len(before) < 20:
        return False
    value = w.loss.values[-1 - back]
    centre = median(before)
    height = value - centre
    floor = t.spike_init_frac * max(
        abs(w.init if w.init is not None else centre), t.good_start_frac * (w.chance or 0.0)
    )
    if not (height > t.spike_mads * mad(before, centre) and height > floor):
        return False
    if height <= (t.spike_over_median - 1) * abs(centre):
        return False
    highest = max((h for h in w.heights.tail(KEPT_HEIGHTS, max(skip, back + 1))), default=0.0)
    return height > t.spike_over_recent * highest


KEPT_HEIGHTS = 100


def loss_spike(w: Window, t: Thresholds) -> Judged:
    """Class 3: one loss far above its surroundings."""
    if not w.loss.fresh(w.row) or w.loss.count < 21 or sweeping(w, t):
        return None
    if not _is_spike(w, t):
        return CLEAR
    before = w.loss.tail(t.spike_rows, 1)
    value, centre = w.loss.values[-1], median(before)
    text = f"the loss jumped to {value:.4g} from about {centre:.4g}"
    rule = f"> median + {t.spike_mads:g} MAD of {len(before)} and > {t.spike_over_median:g} x median"
    return Finding(3, value, centre, rule, centre + t.spike_mads * mad(before, centre), text)


def gradient_explosion(w: Window, t: Thresholds) -> Judged:
    """Class 4: gradients far above the run's own."""
    track = w.signal("grad_norm")
    if (
        not track.fresh(w.row)
        or sweeping(w, t)
        or (w.lr_jump_row is not None and w.row - w.lr_jump_row <= 20)
    ):
        return None
    streak = t.explosion_streak
    last = track.tail(streak)
    if track.count <= t.warmup:
        return None
    before = track.tail(t.explosion_rows, streak)
    usual, opening = median(before), max(track.opening[: t.warmup])
    limit = max(t.explosion_over_median * usual, t.explosion_over_warmup * opening)
    if not (len(last) == streak and min(last) > limit > 0):
        return CLEAR
    text = f"the gradient norm is {last[-1]:.3g}, {last[-1] / max(usual, TINY):.3g} x its median"
    rule = f"> {t.explosion_over_median:g} x median and > {t.explosion_over_warmup:g} x the warm-up's largest"
    return Finding(4, last[-1], usual, rule, limit, text, since=streak - 1)


def vanishing_gradient(w: Window, t: Thresholds) -> Judged:
    """Class 5: the first layer's gradient is nothing beside the last layer's, and the loss does not fall."""
    first, last = w.signal("grad_rms_first"), w.signal("grad_rms_last")
    if not (first.fresh(w.row) and last.fresh(w.row)) or w.row < t.vanishing_rows:
        return None
    # Gradients may be read in fewer rows than there are: the span counts, and a few samples in it.
    firsts, lasts = first.since(w.row - t.vanishing_rows + 1), last.since(w.row - t.vanishing_rows + 1)
    if len(firsts) < min(4, t.vanishing_rows):
        return None
    held = all(
        a < t.vanishing_first and a < t.vanishing_ratio * b for a, b in zip(firsts, lasts, strict=False)
    )
    if held and w.init is not None:
        held = median(w.loss.tail(5)) > w.init - t.vanishing_loss_drop * abs(w.init)
    if not held:
        return CLEAR
    ratio = firsts[-1] / max(lasts[-1], TINY)
    text = f"the first layer's gradient is {ratio:.1e} of the last layer's for {t.vanishing_rows} rows"
    return Finding(5, ratio, lasts[-1], "first over last layer's gradient RMS", t.vanishing_ratio, text,
                   since=t.vanishing_rows - 1)  # fmt: skip


def dead_units(w: Window, t: Thresholds) -> Judged:
    """Class 6: most units of a layer are zero on whole batches."""
    return _share(
        w, "dead_frac", 6, t.dead_frac, t.dead_probes, "of a layer's units are zero on a whole batch"
    )


def saturation(w: Window, t: Thresholds) -> Judged:
    """Class 7: most units of a layer sit in the flat part of their activation."""
    text = "of a layer's units are saturated"
    return _share(w, "saturated_frac", 7, t.saturated_frac, t.saturated_probes, text)


def _share(w: Window, signal: str, number: int, limit: float, probes: int, words: str) -> Judged:
    track = w.signal(signal)
    if not track.fresh(w.row) or track.count < probes:
        return None
    values = track.tail(probes)
    if min(values) <= limit:
        return CLEAR
    text = f"{values[-1]:.0%} {words}, in {probes} probes"
    since = w.row - list(track.rows)[-probes]
    return Finding(number, values[-1], None, f"{signal} in {probes} probes", limit, text, since=since)


def no_update(w: Window, t: Thresholds) -> Judged:
    """Class 8: the optimizer steps and the weights stay."""
    rate = w.signal("lr")
    if rate.count and not _lr_alive(w, t):
        return None
    ratio, norm = w.signal("update_ratio"), w.signal("grad_norm")
    start = w.row - t.no_update_rows + 1
    if ratio.fresh(w.row):
        low = _low_since(ratio, t.no_update_ratio)
        if low is None:
            return CLEAR if not _zero_gradient(w, t) else None
        if low <= start and _still_wrong(w):
            text = f"weights did not move for {w.row - low + 1} rows (largest update/weight {ratio.last:.1e})"
            return Finding(8, ratio.last or 0.0, rate.last, "largest update over weight norm", t.no_update_ratio,
                           text, certain=True, since=w.row - low)  # fmt: skip
    if norm.fresh(w.row) and _zero_gradient(w, t) and _still_wrong(w) and not ratio.fresh(w.row):
        text = f"every gradient was exactly zero for {t.no_update_rows} rows while the loss is not"
        return Finding(
            8, 0.0, w.loss.last, "gradient norm", 0.0, text, certain=False, since=t.no_update_rows - 1
        )
    return None


def _lr_alive(w: Window, t: Thresholds) -> bool:
    track = w.signal("lr")
    recent = track.tail(t.no_update_rows)
    return min(recent) > t.lr_dead_frac * track.highest


def _low_since(track: Track, limit: float) -> int | None:
    """Row since which every sample is at or below the limit."""
    low: int | None = None
    for row, value in zip(reversed(track.rows), reversed(track.values), strict=True):
        if value > limit:
            break
        low = row
    return low


def _zero_gradient(w: Window, t: Thresholds) -> bool:
    norms = w.signal("grad_norm").tail(t.no_update_rows)
    return len(norms) == t.no_update_rows and max(norms) == 0.0


def _still_wrong(w: Window) -> bool:
    """A loss of (nearly) zero has nothing left to learn: weights may rest."""
    return w.loss.last is None or abs(w.loss.last) > 1e-6 * max(1.0, abs(w.init or 0.0))


def learning_rate(w: Window, t: Thresholds) -> Judged:
    """Class 9: the learning rate is dead long before the end."""
    track = w.signal("lr")
    if not track.fresh(w.row) or track.count < t.lr_dead_rows or track.highest <= 0:
        return None
    limit = 0.999 * t.lr_dead_frac * track.highest
    low = _low_since(track, limit)
    if low is None:
        return CLEAR
    held = w.row - low + 1
    abrupt = w.lr_abrupt_row is not None and abs(w.lr_abrupt_row - low) <= 2 and w.lr_drop >= t.lr_abrupt
    from_start = low == track.rows[0]
    progress = w.progress
    if progress is not None and progress > 1 - t.lr_left_frac:
        return None
    if progress is None and not abrupt:
        return None
    needed = t.lr_dead_rows if abrupt else max(t.lr_dead_rows, math.ceil(t.lr_dead_span_frac * w.row))
    if held < needed or from_start:
        return None
    left = "" if progress is None else f" with {1 - progress:.0%} of the plan left"
    text = (
        f"the learning rate is {track.last:.2g}, {(track.last or 0) / track.highest:.1g} of its largest{left}"
    )
    return Finding(
        9, track.last or 0.0, track.highest, f"learning rate for {needed} rows", limit, text, since=held - 1
    )


def constant_rate(w: Window, t: Thresholds, scheduler: bool) -> Judged:
    """Class 9: a scheduler is there and the rate never changed."""
    track = w.signal("lr")
    if not scheduler or not track.fresh(w.row):
        return None
    if w.lr_changed:
        return CLEAR
    if w.progress is None or w.progress < t.lr_constant_frac or w.resumed:
        return None
    text = f"a scheduler was built and the learning rate stood at {track.last:.3g} for {w.progress:.0%} of the plan"
    return Finding(
        9, track.last or 0.0, "scheduler declared", "share of the plan at one rate", t.lr_constant_frac, text
    )


def plateau(w: Window, t: Thresholds, good_start: bool = False) -> Judged:
    """Class 10: nothing was learned in the time in which a run should have learned something."""
    if not w.loss.fresh(w.row) or w.init is None or w.best.last is None or w.resumed or good_start:
        return None
    if (
        w.row < t.plateau_rows
        or (w.progress is not None and w.progress < t.plateau_plan_frac)
        or sweeping(w, t)
    ):
        return None
    level = w.level() or 0.0
    reference = w.start()
    # Where the noise could hide all that was learned, a fall worth having is believed: more rows will tell.
    hidden = min(t.plateau_noise * _error_of_level(w), t.plateau_hidden * abs(reference))
    limit = reference - max((1 - t.plateau_frac) * abs(reference), hidden)
    if level <= limit or (not _at_chance(w, t, level) and _metric_moved(w, t)):
        return CLEAR
    text = f"after {w.row} rows the loss is still {level:.4g}; it began at {w.init:.4g}"
    text += f", guessing by the shares of the labels gives {w.chance:.4g}" if w.chance else ""
    return Finding(10, level, reference, "mean of the newest losses over the first", limit, text)


def _error_of_level(w: Window) -> float:
    """Standard error of the newest level against that of the start, from the noise of one loss."""
    opening, recent = min(w.loss.count, w.warmup), min(w.loss.count, 50)
    return w.noise(200) * math.sqrt(1 / max(1, opening) + 1 / max(1, recent))


def _at_chance(w: Window, t: Thresholds, level: float) -> bool:
    """A loss that began at guessing's and stands there: a metric that moves beside it has learned nothing from it."""
    if not w.chance or w.init is None or level < t.plateau_frac * w.chance:
        return False
    return abs(w.init / w.chance - 1) <= t.plateau_near_chance


def _metric_moved(w: Window, t: Thresholds) -> bool:
    """Whether a metric is good, or got better beyond the noise of its evaluations."""
    good = max(t.plateau_good_metric, 0.5 * (1 + w.majority)) if w.majority else t.plateau_good_metric
    for name, best in w.ceilings.items():
        way = names.sense(name, w.senses)
        if way == "max" and names.in_unit_range(name) and good <= best <= 1.0:
            return True
        values = [v for _, v in w.series(name)]
        if len(values) < 4:
            continue
        half = len(values) // 2
        noise = evaluation_noise(values)
        gain = median(values[half:]) - median(values[:half])
        gain = -gain if way == "min" else gain
        unit = way == "max" and names.in_unit_range(name)
        least = 0.1 * (1 - values[0]) if unit else 0.05 * abs(values[0])
        if gain > max(t.evaluation_noise * noise / math.sqrt(half), least):
            return True
    return False


def learned(w: Window, t: Thresholds) -> bool:
    """Whether the loss fell from its own first values by more than a plateau allows."""
    level = w.level()
    least = max((1 - t.plateau_frac) * abs(w.began()), t.plateau_noise * _error_of_level(w))
    return level is None or level < w.began() - least


def evaluation_noise(values: list[float]) -> float:
    """Robust standard deviation of one evaluation around its trend, from the bends of the newest ones."""
    recent = values[-12:]
    if len(recent) < 4:
        return 0.0
    bends = [abs(b - 0.5 * (a + c)) for a, b, c in zip(recent, recent[1:], recent[2:], strict=False)]
    return 1.4826 * median(bends) / math.sqrt(1.5)


STEP_RULES: tuple[Callable[[Window, Thresholds], Judged], ...] = (
    nonfinite,
    no_update,
    learning_rate,
    gradient_explosion,
    divergence,
    loss_spike,
    saturation,
    dead_units,
    vanishing_gradient,
)
