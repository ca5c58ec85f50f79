"""Properties of the search: whatever a machine answers, the search ends, may be resumed anywhere, and claims no more."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from assay.core.candidate import Candidate
from assay.core.evidence import Evidence
from assay.core.study import AdapterRef
from assay.core.trials import Trials
from assay.core.tuning import TRIALS, Cause, Stage
from assay.core.vocabulary import Status
from assay.gates.tuning import RECORD, ReadingGate, TuningGate
from assay.tuning.answer import answer
from assay.tuning.search import Search
from tuning_world import World, plan, point

answers = st.one_of(
    st.floats(5.0, 500.0).map(point),
    st.floats(5.0, 500.0).map(lambda v: point(v, late=2)),
    st.sampled_from([Cause.OOM_LOAD, Cause.CRASH, Cause.OOM_RUN]),
    st.just(point(None)),
    st.just("nobody knows"),
)
worlds = st.tuples(
    st.integers(1, 5),
    st.integers(1, 2),
    st.lists(answers, min_size=1, max_size=30),
    st.sampled_from([0, 0, 0, 1]),
)


def made(world: tuple[int, int, list[object], int]) -> World:
    """A machine that answers from a list, over and over."""
    cells, models, told, _ = world
    names = {f"m{k}": cells for k in range(models)}
    return World(plan(names), lambda launch, n: told[n % len(told)])  # type: ignore[arg-type, return-value]


@given(worlds)
def test_the_search_ends_within_its_readings(world: tuple[int, int, list[object], int]) -> None:
    """Readings of the race never exceed their limit by more than the repeats of invalid ones."""
    search = made(world).run()
    raced = [r for r in search.readings if r.launch.stage in (Stage.SCREEN, Stage.CONFIRM)]
    first = [r for r in raced if r.launch.attempt == 1]
    if search.chosen is not None:
        assert len(first) <= (search.rule.readings or 0)


@given(worlds, st.data())
def test_it_goes_on_from_any_prefix_as_if_nothing_had_happened(
    world: tuple[int, int, list[object], int], data: st.DataObject
) -> None:
    """The next launch follows from the readings alone."""
    run = made(world)
    launches = []
    while (launch := run.step()) is not None:
        launches.append(launch)
    at = data.draw(st.integers(0, len(launches)))
    again = Search(run.plan, tuple(run.readings[:at])).next_launch()
    assert again == (launches[at] if at < len(launches) else None)


@given(worlds, st.data())
def test_a_resume_anywhere_still_ends_in_an_answer(
    world: tuple[int, int, list[object], int], data: st.DataObject
) -> None:
    """A pause adds at most a sentinel and its repeat; the search ends all the same."""
    run = made(world)
    for _ in range(data.draw(st.integers(0, 12))):
        run.step()
    run.run(session=1)
    stages = Counter(r.launch.stage for r in run.readings)
    assert stages[Stage.SENTINEL] <= 2


@given(worlds)
def test_only_what_serves_is_recommended(world: tuple[int, int, list[object], int]) -> None:
    """Zero runs recommend an infeasible setting; without any valid reading nothing is recommended."""
    search = made(world).run()
    found = answer(search)
    if found.recommended is not None:
        assert found.recommended in search.arms
        assert any(
            r.points and r.points[0].value for r in search.readings if r.launch.cell == found.recommended
        )
    for name in (found.best_estimate, *found.tie_set, *found.open):
        assert name is None or name in search.arms or found.policy != "race"


@given(worlds)
def test_the_default_is_left_only_for_a_proven_challenger(world: tuple[int, int, list[object], int]) -> None:
    """Another setting than the default is recommended only with a lower bound above zero from its own fresh pairs."""
    found = answer(made(world).run())
    if found.recommended is not None and found.recommended != found.default:
        proof = next(p for p in found.proofs if p.cell == found.recommended)
        assert proof.proven
        assert proof.pairs >= 2


@given(st.integers(2, 6), st.floats(10.0, 1000.0))
def test_identical_settings_without_noise_change_nothing(cells: int, value: float) -> None:
    """Where all settings are exactly as fast, the default stays."""
    run = World(plan({"m": cells}), lambda launch, n: point(value))
    found = answer(run.run())
    assert found.recommended == found.default == "m c0"


@given(st.integers(2, 5), st.floats(0.1, 10.0))
def test_the_unit_does_not_matter(cells: int, scale: float) -> None:
    """Tokens a second or a minute: the same launches, the same answer."""

    def at(unit: float) -> World:
        run = World(
            plan({"m": cells}),
            lambda launch, n: point(unit * 100.0 * (1 + 0.1 * int(launch.cell[-1])) * (1 + 0.01 * (n % 3))),
        )
        run.run()
        return run

    one, other = at(1.0), at(scale)
    assert [r.launch for r in one.readings] == [r.launch for r in other.readings]
    a, b = answer(one.search()), answer(other.search())
    assert a.recommended == b.recommended
    assert all(math.isclose(x.gain, y.gain, abs_tol=1e-6) for x, y in zip(a.proofs, b.proofs, strict=True))


NOBODY = Candidate(name="x", parent="sha256:m", build=AdapterRef(kind="identity"))


@given(st.sampled_from(["trials", "load", "results", "tuning", "anything"]), st.booleans())
def test_evidence_of_another_kind_never_passes(kind: str, empty: bool) -> None:
    """Missing evidence, evidence of another kind, no launch at all: never PASS."""
    made_ = plan()
    evidence: dict[str, Evidence] = {}
    if not empty:
        found: Evidence = Evidence(kind=kind, subject="study")
        if kind == "trials":
            found = Trials(subject="study", candidate=NOBODY)
        evidence = {TRIALS: found, RECORD: found, "candidate.load": found}
    for gate in (TuningGate(made_), ReadingGate(made_)):
        assert gate.judge(evidence).status is not Status.PASS
