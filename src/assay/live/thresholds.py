"""Every number that a rule compares with, in one typed table. A plan's `rules` overrides any of them by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from assay.core.errors import SpecError
from assay.core.gate import Policy
from assay.live.classes import BY_NAME, CLASSES, StopMode


class Thresholds(Policy):
    """Limits of the rules. Lengths are in rows of the log (a row a step) unless the name says otherwise."""

    warmup: int = Field(default=20, ge=5)
    """Rows at the start that give the run's own reference values."""
    ema: float = Field(default=0.9, gt=0, lt=1)
    """Weight of the past in the smoothed loss."""
    join_rows: int = Field(default=50, ge=0)
    """An alert this close to an open incident of its family is part of it."""
    resolve_rows: int = Field(default=50, ge=1)
    """So many rows in order close an alert of a step rule."""
    resolve_evaluations: int = Field(default=2, ge=1)
    """So many evaluations in order close an alert of an evaluation rule."""

    amp_skips: int = Field(default=3, ge=0)
    """Steps in a row that a gradient scaler may skip (class 1)."""
    amp_skips_at_start: int = Field(default=12, ge=0)
    """The same within the warm-up, where the scaler looks for its scale."""

    divergence_lost: float = Field(default=0.6, gt=0)
    """Share of the progress (first loss minus best) that is lost again (class 2)."""
    divergence_over_init: float = Field(default=1.5, gt=1)
    """Smoothed loss over the first loss."""
    divergence_early: float = Field(default=3.0, gt=1)
    """The same within the first rows, where the run's own noise is not known yet."""
    divergence_rows: int = Field(default=15, ge=1)
    """Rows in a row that either must hold."""
    divergence_noise: float = Field(default=4.0, ge=0)
    """The rise must also exceed this many robust standard deviations of one loss value."""
    divergence_fast_rows: int = Field(default=8, ge=1)
    """Spikes in a row that are a divergence at once."""
    divergence_jump_rows: int = Field(default=2, ge=1)
    """The same after the learning rate jumped."""
    sweep_rows: int = Field(default=15, ge=5)
    """A learning rate that grew by a constant factor for so many rows is a learning-rate finder: not judged."""

    spike_mads: float = Field(default=12.0, gt=0)
    """Distance from the median of `spike_rows` losses in median absolute deviations (class 3)."""
    spike_rows: int = Field(default=50, ge=20)
    spike_over_median: float = Field(default=2.0, gt=1)
    spike_init_frac: float = Field(default=0.6, ge=0)
    """Height above the median as a share of the first loss."""
    spike_over_recent: float = Field(default=3.2, ge=1)
    """Height above the median over the highest such height in the rows before: heavy tails repeat."""

    explosion_over_median: float = Field(default=30.0, gt=1)
    """Gradient norm over the median of `explosion_rows` (class 4)."""
    explosion_rows: int = Field(default=100, ge=20)
    explosion_over_warmup: float = Field(default=10.0, gt=1)
    """And over the largest of the warm-up."""
    explosion_streak: int = Field(default=2, ge=1)

    vanishing_ratio: float = Field(default=1e-3, gt=0)
    """First layer's gradient RMS over the last layer's (class 5)."""
    vanishing_first: float = Field(default=1e-5, gt=0)
    """And the first layer's own."""
    vanishing_rows: int = Field(default=20, ge=1)
    vanishing_loss_drop: float = Field(default=0.3, ge=0)
    """Silent once the loss fell by this share: the net learns all the same."""

    dead_frac: float = Field(default=0.9, gt=0, le=1)
    """Units of a layer that are zero on a whole batch (class 6)."""
    dead_probes: int = Field(default=3, ge=1)
    saturated_frac: float = Field(default=0.5, gt=0, le=1)
    """Units beyond +-5 before a tanh or sigmoid (class 7)."""
    saturated_probes: int = Field(default=3, ge=1)

    no_update_ratio: float = Field(default=1e-7, ge=0)
    """Largest update over weight norm that still counts as none (class 8)."""
    no_update_rows: int = Field(default=8, ge=2)
    wiring_foreign_frac: float = Field(default=0.5, gt=0, le=1)
    """Share of trainable elements outside the optimizer from which the wiring is certainly wrong."""

    lr_dead_frac: float = Field(default=1e-3, gt=0)
    """Learning rate over its largest (class 9)."""
    lr_dead_rows: int = Field(default=8, ge=1)
    lr_dead_span_frac: float = Field(default=0.03, ge=0)
    """A slow descent must stay there for this share of the rows so far: a cosine's foot is not dead."""
    lr_abrupt: float = Field(default=100.0, gt=1)
    """A fall by this factor within two rows is judged after `lr_dead_rows`."""
    lr_left_frac: float = Field(default=0.1, ge=0, lt=1)
    """Share of the planned steps that must be left."""
    lr_constant_frac: float = Field(default=0.65, gt=0, le=1)
    """Share of the plan over which a declared scheduler may leave the rate untouched."""

    plateau_rows: int = Field(default=100, ge=20)
    """Earliest row (class 10)."""
    plateau_plan_frac: float = Field(default=0.3, ge=0, le=1)
    """Earliest share of the plan."""
    plateau_frac: float = Field(default=0.98, gt=0, le=1)
    """Newest losses over the first loss (or over guessing by the shares of the labels, where they are known)."""
    plateau_noise: float = Field(default=2.0, ge=0)
    """A fall of less than so many standard errors of the level is none."""
    plateau_hidden: float = Field(default=0.1, ge=0)
    """A fall by this share of the first loss counts however large the noise is."""
    plateau_near_chance: float = Field(default=0.2, ge=0)
    """First loss over guessing's within this distance: the two are on one scale."""
    good_start_frac: float = Field(default=0.2, ge=0, le=1)
    """Share of guessing's loss that first losses are taken for at least: a fine-tuned model starts near zero."""
    plateau_good_metric: float = Field(default=0.6, gt=0, le=1)
    """A metric in 0..1 (higher is better) at this value says that the start was good already."""
    plateau_good_start: float = Field(default=0.7, gt=0)
    """First loss over the entropy of the labels below which the start was good already."""

    overfit_rise: float = Field(default=0.12, gt=0)
    """Validation loss over its best (class 11)."""
    overfit_errors: float = Field(default=2.0, ge=0)
    """And so many standard errors of a loss on so few rows, where their number is known."""
    overfit_evaluations: int = Field(default=3, ge=1)
    overfit_train_drop: float = Field(default=0.1, ge=0)
    """The training loss must have fallen by this share since."""
    overfit_trend: int = Field(default=6, ge=4)
    """Evaluations since the best after which a steady climb is judged by where it leads."""
    overfit_trend_window: int = Field(default=8, ge=4)
    """Newest of them that its slope is taken from."""
    overfit_trend_errors: float = Field(default=4.0, ge=0)
    """Slope over its standard error."""
    overfit_projected: float = Field(default=0.2, gt=0)
    """Where that slope leads, over the best."""
    overfit_least: float = Field(default=0.05, ge=0)
    """And over its best already, in the newest three."""
    overfit_steep_drop: float = Field(default=0.4, ge=0)
    """The training loss must have fallen by this share since."""
    evaluation_noise: float = Field(default=3.0, ge=0)
    """A change counts from this many standard deviations of the evaluation's own noise."""

    frozen_evaluations: int = Field(default=3, ge=2)
    """Bit-equal values of every real-valued metric (class 12)."""
    frozen_coarse_evaluations: int = Field(default=8, ge=2)
    """The same where only coarse metrics (accuracy on few rows) are logged."""

    regression_sd: float = Field(default=3.0, gt=0)
    """Standard deviations below the best: of the evaluations, or of what so few rows can tell (class 13)."""
    regression_frac: float = Field(default=0.15, ge=0)
    """And share of the best (of its distance to the worst seen)."""
    regression_evaluations: int = Field(default=3, ge=1)
    regression_jump: float = Field(default=1.3, gt=1)
    """Training loss since the best over the loss at the best: the data changed, this is no overfitting."""
    regression_drop: float = Field(default=1.7, gt=1)
    """Training loss before over after one evaluation interval: so sudden a fall is other, easier data."""
    regression_sudden: float = Field(default=5.0, gt=1)
    """Worsening in one evaluation over the usual change before it: no overfitting is so sudden."""
    regression_hasty: float = Field(default=3.0, gt=1)
    """The same where the training loss also fell `regression_eased` times as fast as before."""
    regression_eased: float = Field(default=1.3, gt=1)
    regression_history: int = Field(default=6, ge=3)
    """Evaluations before that show what is usual; in a run that turns earlier it is overfitting."""
    regression_share: float = Field(default=0.2, ge=0, le=1)
    """Share of all that was lost that this one evaluation lost."""
    seed_sd: float | None = Field(default=None, ge=0)
    """Standard deviation of the primary metric over seeds, where known."""

    collapse_slack: float = Field(default=0.02, ge=0)
    """Balanced accuracy over 1/classes (class 14)."""
    collapse_share: float = Field(default=0.95, gt=0, le=1)
    """Share of predictions of one class."""
    collapse_plan_frac: float = Field(default=0.3, ge=0, le=1)
    collapse_evaluations: int = Field(default=2, ge=1)

    unshuffled_entropy: float = Field(default=0.5, gt=0, le=1)
    """Batch label entropy over what a random batch of that size has (class 15)."""
    unshuffled_least: float = Field(default=0.3, ge=0)
    """Entropy in nats that a random batch must have: rare labels are missing from most batches anyway."""
    unshuffled_batches: int = Field(default=5, ge=1)

    leak_overlap: float = Field(default=0.01, ge=0)
    """Share of validation rows that are in the training set (class 16)."""
    leak_over_duplicates: float = Field(default=3.0, ge=0)
    """And this multiple of the training set's own duplicates."""
    leak_sds: float = Field(default=3.0, ge=0)
    """And so many standard deviations of what chance then gives."""
    leak_feature: float = Field(default=0.9, gt=0, le=1)
    """Score of one feature alone."""
    leak_feature_regression: float = Field(default=0.8, gt=0, le=1)
    """The same as a share of the target's variance, which label noise lowers twice as fast."""
    leak_errors: float = Field(default=1.0, ge=0)
    """Either must stand there by so many standard errors of so few rows."""
    leak_lift: float = Field(default=0.5, gt=0, le=1)
    """Share of the way to perfect that it stands above the next best feature and above guessing."""
    leak_val_better: float = Field(default=0.05, ge=0)
    """Validation above training score in each of the first evaluations, without dropout."""
    leak_first: float = Field(default=0.995, gt=0, le=1)
    """First validation score while the training loss kept half of its first value."""
    leak_first_rows: int = Field(default=100, ge=1)
    """Rows of validation, where known, below which a perfect score may be luck."""
    label_skew: float = Field(default=0.2, ge=0)
    """Total variation distance of the labels between training and validation."""

    stall_s: float = Field(default=30.0, gt=0)
    """Least silence (class 17)."""
    stall_over_p95: float = Field(default=20.0, gt=1)
    """Silence over the 95th percentile of the gaps between rows."""
    stall_init_s: float = Field(default=1200.0, gt=0)
    """Silence allowed before the first row."""
    stall_compile_s: float = Field(default=1800.0, gt=0)
    """Silence allowed in phase `compile`."""
    stall_eval_s: float = Field(default=1800.0, gt=0)
    """Silence allowed in phase `eval`, or 5 times the longest evaluation seen."""
    stall_checkpoint_s: float = Field(default=900.0, gt=0)
    """Silence allowed in phase `checkpoint`."""

    contended_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the processor time it wanted that the training thread did not get; above it times are corrected."""
    contended_rows: int = Field(default=400, ge=1)
    """Rows for which a reading of it holds: it is taken about once a second."""

    starvation_frac: float = Field(default=0.5, gt=0, le=1)
    """Share of the step spent waiting for data, over `starvation_window` rows (class 19)."""
    starvation_window: int = Field(default=20, ge=1)
    starvation_rows: int = Field(default=10, ge=1)
    starvation_wait_s: float = Field(default=0.002, ge=0)
    """Waits below this are no loss worth a word."""

    throughput_ratio: float = Field(default=2.5, gt=1)
    """Median step time over the baseline (class 20)."""
    throughput_window: int = Field(default=15, ge=3)
    throughput_rows: int = Field(default=10, ge=1)
    throughput_baseline_rows: int = Field(default=30, ge=5)
    """Steps that make the baseline, after the first `throughput_skip_rows`."""
    throughput_skip_rows: int = Field(default=5, ge=0)
    throughput_step_s: float = Field(default=0.001, ge=0)
    """Slower by less than this is not judged."""

    memory_windows: int = Field(default=12, ge=4)
    """Windows of resident memory (class 21)."""
    memory_window_rows: int = Field(default=4, ge=1)
    memory_rising: int = Field(default=9, ge=3)
    """Of them so many rise."""
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    """Known limit; else the watcher tells it."""
    memory_growth_bytes: int = Field(default=2 * 2**20, ge=0)
    """Less growth than this over the windows is the allocator's breathing."""
    memory_skip_rows: int = Field(default=20, ge=0)
    """Rows at the start in which libraries still load."""

    best_tolerance: float = Field(default=1e-6, ge=0)
    """Relative difference of best's metric and the log's best (class 23)."""
    start_losses: int = Field(default=5, ge=1)
    """Losses compared with an earlier attempt of the same seed (class 24)."""
    start_tolerance: float = Field(default=1e-6, ge=0)
    """Relative difference that counts as equal."""
    drift_tolerance: float = Field(default=0.01, ge=0)
    """Relative difference of a run-time value from the frozen configuration (class 25)."""
    least_step_s: float = Field(default=1e-6, ge=0)
    """Time a step takes at the very least (class 26)."""

    fold_sd_over_gain: float = Field(default=0.5, gt=0)
    """Standard deviation over folds against the mean gain over the baseline (class 27)."""
    train_cv_gap: float = Field(default=0.15, gt=0)
    """Training minus cross-validated score, where the latter is below the former."""
    boosting_rounds: int = Field(default=50, ge=1)
    """Rounds that a boosting metric got worse in."""
    boosting_rise: float = Field(default=0.02, ge=0)
    """Relative worsening since its best."""
    search_idle_frac: float = Field(default=0.5, gt=0, le=1)
    """Share of a search's budget without a new best."""
    search_least: int = Field(default=20, ge=2)
    """Trials before a search is judged."""


def resolve(plan: Mapping[str, Any] | None, base: Thresholds | None = None) -> Thresholds:
    """The table with a plan's `rules` laid over it.

    Raises:
        SpecError: if a name is unknown or a value is out of range.
    """
    rules = (plan or {}).get("rules") or {}
    base = base or Thresholds()
    if not isinstance(rules, Mapping):
        raise SpecError("`rules` must map names of thresholds to values", where="plan.rules")
    unknown = sorted(str(name) for name in rules if name not in Thresholds.model_fields)
    if unknown:
        names = ", ".join(sorted(Thresholds.model_fields))
        raise SpecError(f"unknown threshold {unknown[0]!r}", where="plan.rules", allowed=names)
    try:
        return Thresholds.model_validate({**base.model_dump(), **rules})
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(str(first["msg"]), where=f"plan.rules.{'.'.join(map(str, first['loc']))}") from error


def stop_modes(plan: Mapping[str, Any] | None) -> dict[int, StopMode]:
    """What each class does to the run: the defaults with a plan's `stop` (name or number → mode) laid over them.

    Raises:
        SpecError: if a class or a mode is unknown.
    """
    modes = {number: row.stop for number, row in CLASSES.items()}
    given = (plan or {}).get("stop") or {}
    if not isinstance(given, Mapping):
        raise SpecError("`stop` must map names of classes to off, warn or stop", where="plan.stop")
    for key, value in given.items():
        number = BY_NAME[key].number if key in BY_NAME else int(key) if str(key).isdigit() else 0
        if number not in CLASSES:
            raise SpecError(
                f"unknown fault class {key!r}", where="plan.stop", allowed=", ".join(sorted(BY_NAME))
            )
        if not isinstance(value, str) or value not in set(StopMode):
            raise SpecError(f"unknown mode {value!r}", where=f"plan.stop.{key}", allowed="off, warn, stop")
        modes[number] = StopMode(value)
    return modes
