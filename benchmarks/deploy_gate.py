"""Error rates and power of the gate that deploys texts, by Monte-Carlo with known truth, beside the source's rule.

Each share stands with its exact one-sided 99 % bound, and a target is met only if that bound meets it. Studies are drawn
from known pass rates and judged by the gate's own tests over whole plans of looks (`_deploy.plan.simulate`); a sample of
them goes through the real gate too, and the words must be the same. The source's rule: one pass, at least one task more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from _figures import Row, main
from _shares import Share, at_least, at_most, seeded, worst
from numpy.typing import NDArray

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.suite import Fixture, Suite, Task, Verifier
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome
from assay.gates._deploy.plan import judge_probes, simulate
from assay.gates.deploy import DeployGate, DeployPolicy
from assay.gates.suite import copied_from_suite
from assay.stats import agent_suites

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Generator = np.random.Generator

ALPHA = 0.05
BASE_RATES = tuple(round(r / 10, 1) for r in range(1, 10))
LOOKS = (3, 6, 9)
PLAN = DeployPolicy(looks=LOOKS)
FACTS_PLAN = DeployPolicy(looks=LOOKS, alpha_spent=(0.01, 0.015, 0.025))
"""The plan that was simulated for the facts."""
WORDS = {1: Outcome.ACCEPT, 0: Outcome.NO_GAIN, -1: Outcome.REGRESSION, -2: Outcome.INCONCLUSIVE}
CANARY = "canary"
ENOUGH = 1_000


def seed_deploys(rng: Generator, before: Floats, after: Floats, draws: int) -> Share:
    """The source's rule on fresh passes: at least one task more."""
    first = (rng.random((draws, before.shape[-1])) < before).sum(axis=1)
    second = (rng.random((draws, after.shape[-1])) < after).sum(axis=1)
    return Share.of(second > first)


def studies(
    rng: Generator, policy: DeployPolicy, before: Any, gain: Any, looks: Sequence[int], draws: int
) -> tuple[Ints, Ints]:
    """Words and runs of studies whose tasks have such rates."""
    rates = np.asarray(before, dtype=float)
    return simulate(policy, rates, np.clip(rates + gain, 0.0, 1.0), looks, draws, rng)


# --- the real gate -----------------------------------------------------------------------------------------


def evidence(cells: dict[str, dict[str, list[AgentOutcome]]], **more: Any) -> AgentRuns:
    """Runs as an agent would leave them, each arm with a canary that passes."""
    repeats = {arm: max(map(len, tasks.values())) for arm, tasks in cells.items()}
    runs = []
    for arm, tasks in {a: {**t, CANARY: [AgentOutcome.PASS] * repeats[a]} for a, t in cells.items()}.items():
        for task, ended in tasks.items():
            for rep, outcome in enumerate(ended, 1):
                score = None if outcome is AgentOutcome.INFRA_ERROR else float(outcome is AgentOutcome.PASS)
                runs.append(AgentRun(task=task, arm=arm, rep=rep, block=rep, outcome=outcome, score=score))
    return AgentRuns(
        subject="candidate",
        suite="sha256:suite",
        runner="simulated",
        texts={BASELINE: "sha256:a", CANDIDATE: "sha256:b"},
        text_chars={BASELINE: 1000, CANDIDATE: 1000},
        tasks=(*next(iter(cells.values())), CANARY),
        canaries=(CANARY,),
        repeats=repeats,
        runs=tuple(runs),
        **more,
    )


def ended(passed: NDArray[np.bool_]) -> list[AgentOutcome]:
    """Outcomes of one task."""
    return [AgentOutcome.PASS if p else AgentOutcome.TASK_FAIL for p in passed]


def judged(policy: DeployPolicy, runs: AgentRuns) -> Verdict:
    """What the gate says."""
    return DeployGate(policy).judge({"candidate.runs": runs})


def gate_words(
    policy: DeployPolicy, before: Floats, after: Floats, looks: Sequence[int], draws: int, rng: Generator
) -> list[Outcome]:
    """The same draws as `simulate` makes with that generator for one look, through the real gate."""
    tasks, repeats = before.shape[-1], looks[0]
    first = rng.binomial(repeats, before, size=(draws, tasks))
    second = rng.binomial(repeats, after, size=(draws, tasks))
    out = []
    for a, b in zip(first, second, strict=True):
        cells = {
            arm: {f"t{i}": ended(np.arange(repeats) < n) for i, n in enumerate(row)}
            for arm, row in ((BASELINE, a), (CANDIDATE, b))
        }
        found = judged(policy, evidence(cells))
        out.append(Outcome(found.outcome or ""))
    return out


def same_as_gate(rng: Generator, draws: int) -> list[Row]:
    """The vectorised path against the real gate, on the same counts."""
    wrong = total = 0
    for estimand, tasks, repeats, gain in (
        ("fixed_suite", 5, 3, 0.3),
        ("fixed_suite", 8, 6, 0.2),
        ("population", 8, 5, 0.3),
    ):
        policy = DeployPolicy(looks=(repeats,), estimand=estimand)
        before = np.linspace(0.2, 0.6, tasks)
        after = np.clip(before + gain, 0, 1)
        state = int(rng.integers(2**31))
        words, _ = simulate(policy, before, after, (repeats,), draws, np.random.default_rng(state))
        real = gate_words(policy, before, after, (repeats,), draws, np.random.default_rng(state))
        pairs = [(WORDS[int(w)], r) for w, r in zip(words, real, strict=True)]
        wrong += sum(w is not r for w, r in pairs)
        total += draws
    return [
        Row(f"D0 vectorised words that differ from the gate's, of {total}", wrong, "", "<= 0", wrong == 0)
    ]


# --- an unchanged text, harm, selection --------------------------------------------------------------------


def d1(rng: Generator, draws: int) -> list[Row]:
    """An unchanged text: every base rate, several sizes, both estimands; and mixed rates."""
    rows = []
    for tasks in (5, 8, 20):
        found, source = [], []
        for rate in BASE_RATES:
            rates = np.full(tasks, rate)
            words, _ = studies(rng, PLAN, rates, 0.0, LOOKS, draws)
            found.append(Share.of(words == 1))
            source.append(seed_deploys(rng, rates, rates, draws))
        told = f"source {min(s.percent for s in source):.0f}-{max(s.percent for s in source):.0f} %"
        rows.append(
            at_most(
                f"D1 unchanged text deployed, {tasks} tasks x {LOOKS}, worst base rate", worst(found), 5, told
            )
        )
    once = [
        Share.of(studies(rng, DeployPolicy(), np.full(12, r), 0.0, (5,), draws)[0] == 1) for r in BASE_RATES
    ]
    rows.append(
        at_most("D1 unchanged text deployed, 12 tasks x 5, one look, worst base rate", worst(once), 5)
    )
    population = DeployPolicy(looks=LOOKS, estimand="population")
    spread = np.clip(rng.normal(0, 0.3, (draws, 12)), -0.5, 0.5)
    mixed = np.full((draws, 12), 0.5)
    words, _ = simulate(population, mixed, np.clip(mixed + spread, 0, 1), LOOKS, draws, rng)
    fixed, _ = simulate(PLAN, mixed, np.clip(mixed + spread, 0, 1), LOOKS, draws, rng)
    peer = f"the fixed-suite test would claim it {Share.of(fixed == 1).percent:.0f} % of the time"
    rows.append(
        at_most(
            "D1 no gain on tasks like these, task effects sd .3, population", Share.of(words == 1), 5, peer
        )
    )
    five = [seed_deploys(rng, np.full(5, r), np.full(5, r), 4 * draws).percent for r in (0.2, 0.5, 0.8)]
    rows.append(
        Row(
            "D1 source deploys an unchanged text, 5 tasks",
            max(five),
            "%",
            "",
            None,
            f"from {min(five):.1f} %",
        )
    )
    return rows


def d2(rng: Generator, draws: int) -> list[Row]:
    """The best of five identical candidates: judged by the draw that chose it, and by fresh ones."""
    passes = rng.binomial(5, 0.5, size=(draws, 5))
    reused = Share.of(passes.max(axis=1) > rng.binomial(5, 0.5, size=draws))
    words, _ = studies(rng, PLAN, np.full(5, 0.5), 0.0, LOOKS, draws)
    five = DeployPolicy(looks=LOOKS, candidates=5)
    each = np.stack([studies(rng, five, np.full(8, 0.5), 0.0, LOOKS, draws)[0] for _ in range(5)])
    return [
        Row(
            "D2 source: best of 5 identical, judged by the draw that chose it",
            reused.percent,
            "%",
            "",
            None,
            "facts: 72 %",
        ),
        at_most(
            "D2 best of 5 identical, confirmed on fresh draws",
            Share.of(words == 1),
            5,
            f"source {reused.percent:.0f} %",
        ),
        at_most(
            "D2 any of 5 identical deployed, all confirmed (alpha / 5)", Share.of((each == 1).any(axis=0)), 5
        ),
    ]


def d3(rng: Generator, draws: int) -> list[Row]:
    """Harm is never deployed."""
    rows = []
    for harm in (-0.15, -0.2):
        found, source = [], []
        for tasks in (5, 8, 20):
            rates = np.linspace(0.3, 0.8, tasks)
            words, _ = studies(rng, PLAN, rates, harm, LOOKS, draws)
            found.append(Share.of(words == 1))
            source.append(seed_deploys(rng, rates, rates + harm, draws))
        told = f"source {max(s.percent for s in source):.0f} %"
        rows.append(
            at_most(f"D3 harm of {harm:+.2f} deployed, worst of 5, 8, 20 tasks", worst(found), 1, told)
        )
    words, _ = studies(rng, PLAN, np.full(5, 0.5), -0.2, LOOKS, draws)
    told = f"source {seed_deploys(rng, np.full(5, 0.5), np.full(5, 0.3), draws).percent:.0f} % (facts: 14 %)"
    rows.append(at_most("D3 .5 to .3 on 5 tasks deployed", Share.of(words == 1), 1, told))
    return rows


# --- power -------------------------------------------------------------------------------------------------

POWER = (
    (5, 1, 0.00, 0.00, 0.00, 0.00),
    (5, 3, 0.20, 0.38, 0.03, 0.08),
    (5, 5, 0.34, 0.61, 0.09, 0.19),
    (5, 8, 0.52, 0.84, None, None),
    (5, 10, 0.63, 0.91, 0.25, 0.47),
    (8, 3, 0.33, 0.58, 0.22, 0.43),
    (8, 5, 0.52, 0.84, 0.39, 0.71),
    (8, 10, 0.83, 0.99, None, None),
    (12, 3, 0.50, 0.80, 0.44, 0.74),
    (12, 5, 0.70, 0.96, 0.64, 0.93),
    (20, 3, 0.71, 0.95, 0.68, 0.94),
    (20, 5, 0.90, 1.00, None, None),
)
"""Tasks, repeats; power at +.2 and +.3 of the stratified exact test, and of the sign flips over tasks (facts §2.4)."""
NEAR = 0.1
"""How far a power may lie from the table's, whose base rates are only said to differ between tasks."""


def d4(rng: Generator, draws: int) -> list[Row]:
    """The power table, both tests, and the null beside it."""
    rows, nulls = [], []
    for tasks, repeats, *facts in POWER:
        # base rates differ between tasks and leave room for the gain
        rates = rng.uniform(0.15, 0.65, size=(draws, tasks))
        figures = []
        for estimand in ("fixed_suite", "population"):
            policy = DeployPolicy(estimand=estimand)
            for gain in (0.2, 0.3):
                words, _ = studies(rng, policy, rates, gain, (repeats,), draws)
                figures.append(float(np.mean(words == 1)))
            nulls.append(Share.of(studies(rng, policy, rates, 0.0, (repeats,), draws)[0] == 1))
        off = max(abs(f - t) for f, t in zip(figures, facts, strict=True) if t is not None)
        told = " ".join(
            f"{f:.2f}" + ("" if t is None else f" ({t:.2f})") for f, t in zip(figures, facts, strict=True)
        )
        name = f"D4 power {tasks} x {repeats}, largest distance from the facts' table"
        rows.append(
            Row(
                name,
                off,
                "",
                f"<= {NEAR:g}",
                off <= NEAR,
                f"ours (facts), exact +.2 +.3, flips +.2 +.3: {told}",
            )
        )
    rows.append(at_most("D4 null of every cell of the table, worst", worst(nulls), 5, "facts: <= 4.3 %"))
    return rows


SEQUENTIAL = (
    (5, 0.0, 0.012, 44),
    (5, 0.25, 0.64, 66),
    (5, 0.40, 0.93, 57),
    (8, 0.0, 0.015, 76),
    (8, -0.15, 0.0, 51),
    (8, 0.25, 0.86, 97),
    (8, 0.40, 0.99, 70),
    (12, 0.15, 0.66, 155),
    (12, 0.25, 0.96, 125),
)
"""Tasks, true gain; deployed share and mean runs of three looks (facts §2.4)."""


def d5(rng: Generator, draws: int) -> list[Row]:
    """What looking early saves."""
    rows = []
    for tasks, gain, share, runs in SEQUENTIAL:
        rates = rng.uniform(0.15, 0.6, size=(draws, tasks)) if gain >= 0 else np.full((draws, tasks), 0.5)
        words, used = studies(rng, FACTS_PLAN, rates, gain, LOOKS, draws)
        fixed, _ = studies(rng, DeployPolicy(), rates, gain, (9,), draws)
        saved = 1 - float(used.mean()) / (2 * tasks * 9)
        least = 0.4 if gain <= 0 else 0.1
        told = (
            f"deploys {np.mean(words == 1):.3f} (facts {share}), {used.mean():.0f} runs (facts {runs}) of {18 * tasks}; "
            f"one look deploys {np.mean(fixed == 1):.3f}"
        )
        rows.append(
            Row(
                f"D5 runs saved by 3 looks, {tasks} tasks, gain {gain:+.2f}",
                100 * saved,
                "%",
                f">= {100 * least:g}",
                saved >= least,
                told,
            )
        )
    return rows


# --- cheats ------------------------------------------------------------------------------------------------


def drawn_cells(rng: Generator, tasks: int, repeats: int, rates: tuple[float, float]) -> dict[str, Any]:
    """Both arms with one rate each."""
    return {
        arm: {f"t{i}": ended(rng.random(repeats) < rate) for i in range(tasks)}
        for arm, rate in zip((BASELINE, CANDIDATE), rates, strict=True)
    }


def crash_to_win(rng: Generator, ending: AgentOutcome) -> AgentRuns:
    """A candidate under which three of four failing runs end so: what is left passes more often."""
    cells = drawn_cells(rng, 12, 5, (0.5, 0.5))
    for runs in cells[CANDIDATE].values():
        runs[:] = [ending if o is AgentOutcome.TASK_FAIL and rng.random() < 0.75 else o for o in runs]
    return evidence(cells)


def few_vanish(rng: Generator) -> AgentRuns:
    """The same, kept under the limit of what may teach nothing: 6 of 60 failures vanish."""
    cells = drawn_cells(rng, 12, 5, (0.5, 0.5))
    left = 6
    for runs in cells[CANDIDATE].values():
        for at, outcome in enumerate(runs):
            if left and outcome is AgentOutcome.TASK_FAIL:
                runs[at], left = AgentOutcome.INFRA_ERROR, left - 1
                break
    return evidence(cells)


def test_deletion(rng: Generator) -> AgentRuns:
    """A candidate that has the deciding test changed, and passes everything."""
    runs = evidence(drawn_cells(rng, 12, 5, (0.4, 1.0)))
    return runs.model_copy(
        update={
            "runs": tuple(
                r.model_copy(update={"tampered": ("tests/test_it.py",)})
                if r.arm == CANDIDATE and r.task != CANARY
                else r
                for r in runs.runs
            )
        }
    )


def no_delivery(rng: Generator) -> AgentRuns:
    """A harness in which the text never reaches the agent: its canary fails."""
    runs = evidence(drawn_cells(rng, 12, 5, (0.3, 0.8)))
    return runs.model_copy(
        update={
            "runs": tuple(
                r.model_copy(update={"outcome": AgentOutcome.TASK_FAIL, "score": 0.0})
                if r.task == CANARY
                else r
                for r in runs.runs
            )
        }
    )


def missing_failures(rng: Generator) -> AgentRuns:
    """A table from which the candidate's failures were dropped."""
    runs = evidence(drawn_cells(rng, 12, 5, (0.4, 0.6)))
    kept = tuple(r for r in runs.runs if r.arm == BASELINE or r.passed or r.rep == 1)
    return runs.model_copy(update={"runs": kept})


def drops_what_broke(runs: AgentRuns) -> bool:
    """A rule that leaves out whatever neither passed nor failed, and trusts the rest."""
    ends = (AgentOutcome.PASS, AgentOutcome.TASK_FAIL)
    counts = {
        arm: [[r.passed for r in runs.of(arm, t) if r.outcome in ends] for t in runs.tasks if t != CANARY]
        for arm in (BASELINE, CANDIDATE)
    }
    pairs = [(a, b) for a, b in zip(counts[BASELINE], counts[CANDIDATE], strict=True) if a and b]
    if not pairs:
        return False
    columns = [(sum(a), len(a), sum(b), len(b)) for a, b in pairs]
    return agent_suites.fixed_gain_test(*zip(*columns, strict=True)).p_better <= ALPHA


def copied_values() -> bool:
    """A text that carries the expected values of a hidden test is refused before it is run."""
    task = Task(
        task_id="totals",
        prompt="Write total.py that sums the invoice.",
        verifier=Verifier(
            command=("{python}", "check.py"),
            files=(Fixture(path="check.py", content="import total\nassert total.total() == 48213977\n"),),
        ),
    )
    suite = Suite(name="s", path="s", format="jsonl", source_digest="sha256:s", tasks=(task,))
    text = "# Sums\nAdd the numbers.\n"
    return bool(copied_from_suite(text, text + "For the invoice the answer is 48213977.\n", suite))


def d6(rng: Generator, draws: int) -> list[Row]:
    """Each cheat through the real gate, many times over."""
    policy = DeployPolicy()
    cheats: dict[str, Callable[[], AgentRuns]] = {
        "crash-to-win by agent errors": lambda: crash_to_win(rng, AgentOutcome.AGENT_ERROR),
        "crash-to-win by timeouts": lambda: crash_to_win(rng, AgentOutcome.AGENT_TIMEOUT),
        "abstention: failures end as infra errors": lambda: crash_to_win(rng, AgentOutcome.INFRA_ERROR),
        "abstention: few failures vanish": lambda: few_vanish(rng),
        "test deletion": lambda: test_deletion(rng),
        "text never delivered": lambda: no_delivery(rng),
        "failures dropped from the table": lambda: missing_failures(rng),
    }
    rows = []
    for name, make in cheats.items():
        made = [make() for _ in range(draws)]
        words = [judged(policy, runs).outcome for runs in made]
        share = Share(sum(w is Outcome.ACCEPT for w in words), draws)
        dropped = Share(sum(map(drops_what_broke, made)), draws)
        common = max(set(words), key=words.count)
        # a rate below alpha is shown by a thousand draws; fewer can only show that it is not above
        ok = share.bounds[draws >= ENOUGH] <= 100 * ALPHA
        told = f"mostly {common}; a test that drops what broke down deploys {dropped.percent:.0f} %"
        rows.append(Row(f"D6 {name}: deployed", share.percent, "%", f"<= {100 * ALPHA:g}", ok, told))
    caught = copied_values()
    rows.append(Row("D6 expected value copied into the text: refused", float(caught), "", ">= 1", caught))
    return rows


def d7(rng: Generator, draws: int) -> list[Row]:
    """Three passes of one text, and how wide the interval of a gain really is."""
    probes = judge_probes([(4, 5), (1, 5), (3, 5)])
    ok = probes.outcome is Outcome.INCONCLUSIVE and probes.needed is not None
    rows = [
        Row("D7 probes 4/5, 1/5, 3/5 of one text: runs needed", probes.needed, "", "> 15", ok, probes.detail)
    ]
    covered = 0
    before, after = np.linspace(0.2, 0.7, 8), np.linspace(0.4, 0.8, 8)
    true = float((after - before).mean())
    for _ in range(draws):
        x1, x2 = rng.binomial(5, before), rng.binomial(5, after)
        found = agent_suites.fixed_gain_interval(x1, np.full(8, 5), x2, np.full(8, 5), 0.9)
        covered += found.lower <= true <= found.upper
    rows.append(at_least("D7 90 % interval of the gain covers it, 8 tasks x 5", Share(covered, draws), 85))
    return rows


def measure(quick: bool) -> list[Row]:
    """All figures, each part with a seed of its own."""

    def draws(few: int, many: int) -> int:
        return few if quick else many

    parts: list[Callable[[Generator], list[Row]]] = [
        lambda rng: same_as_gate(rng, draws(60, 400)),
        lambda rng: d1(rng, draws(4_000, 60_000)),
        lambda rng: d2(rng, draws(10_000, 100_000)),
        lambda rng: d3(rng, draws(4_000, 60_000)),
        lambda rng: d4(rng, draws(4_000, 40_000)),
        lambda rng: d5(rng, draws(4_000, 40_000)),
        lambda rng: d6(rng, draws(60, 1_500)),
        lambda rng: d7(rng, draws(1_000, 5_000)),
    ]
    return seeded(parts, 0)


if __name__ == "__main__":
    main(__doc__ or "", measure)
