"""The search: models in the operator's order, settings in interleaved blocks, failures that teach."""

from __future__ import annotations

import pytest

from assay.core.recommendation import ExitReason, Standing
from assay.core.tuning import Budgeted, Cause, Model, Pruned, RacePolicy, ReadingState, Stage
from assay.core.tuning_record import CellState
from assay.tuning.answer import answer
from assay.tuning.record import record
from assay.tuning.search import Search
from tuning_world import World, cell, plan, point

SPEEDS = {"c0": 100.0, "c1": 150.0, "c2": 90.0, "c3": 140.0}


def wobble(number: int) -> float:
    """Noise of about two percent that repeats."""
    return 1.0 + 0.02 * ((number * 7919) % 11 - 5) / 5


def speeds(launch, number):
    """Every setting at its true speed, with a little noise."""
    return point(SPEEDS[launch.cell.split()[1]] * wobble(number))


def test_the_first_model_that_serves_is_chosen_and_no_other_is_launched() -> None:
    """The operator's order is the contract: a smaller model is not even tried."""
    world = World(plan({"big": 4, "small": 4}), speeds)
    search = world.run()
    assert search.chosen is not None
    assert search.chosen.name == "big"
    assert {r.launch.cell.split()[0] for r in world.readings} == {"big"}
    assert [r.launch.stage for r in world.readings].count(Stage.FIT) == 1


def test_a_faster_setting_is_recommended_after_fresh_pairs() -> None:
    """A setting half again as fast wins, by pairs that did not choose it."""
    found = answer(World(plan(), speeds).run())
    assert found.recommended == "m c1"
    proof = next(p for p in found.proofs if p.cell == "m c1")
    assert proof.proven
    assert proof.low > 0
    assert found.exit_reason is ExitReason.OK
    assert found.settled


def test_a_slow_first_model_gives_way_to_the_next() -> None:
    """A model that misses its service level at the default is not feasible."""
    world = World(
        plan({"big": 1, "small": 1}),
        lambda launch, n: point(10.0, late=3 if launch.cell.startswith("big") else 0),
    )
    found = answer(world.run())
    assert found.model == "small"
    assert "3 of 8 late" in found.infeasible["big c0"]
    assert found.standing is Standing.RESOLVED


def test_a_model_that_we_could_not_measure_is_not_passed_over_in_silence() -> None:
    """Our client was late four times: the smaller model serves, but nobody may call that settled."""
    world = World(
        plan({"big": 1, "small": 1}),
        lambda launch, n: point(None if launch.cell.startswith("big") else 50.0),
    )
    found = answer(world.run())
    assert [r.launch.cell for r in world.readings].count("big c0") == 4
    assert found.model == "small"
    assert found.standing is Standing.UNRESOLVED
    assert found.unmeasured == ("big c0",)
    assert any("nothing is known of big c0" in text for text in found.remarks)
    assert not found.settled


def test_what_was_not_validly_measured_is_not_called_infeasible() -> None:
    """In the record such a cell has no verdict, only the reason why it has none."""
    world = World(
        plan({"big": 1, "small": 1}), lambda launch, n: point(None, late=3) if n < 5 else point(50.0)
    )
    search = world.run()
    made = record(search, answer(search), ())
    (big,) = [c for c in made.cells if c.model == "big"]
    assert big.state is CellState.UNTRIED
    assert big.reason.startswith("not validly measured: ")


def test_a_late_client_may_catch_up() -> None:
    """One valid reading is enough for a model to be chosen."""
    world = World(plan({"big": 1, "small": 1}), lambda launch, n: point(None if n < 3 else 50.0))
    found = answer(world.run())
    assert found.model == "big"
    assert found.unmeasured == ()
    assert found.standing is Standing.RESOLVED


def test_nothing_could_be_measured() -> None:
    """That is not the same as that nothing serves."""
    found = answer(World(plan({"big": 1}), lambda launch, n: point(None)).run())
    assert found.recommended is None
    assert found.exit_reason is ExitReason.INTERNAL_ERROR
    assert "nothing is known" in found.sentence


def test_a_setting_that_we_could_not_measure_leaves_the_race_open() -> None:
    """It may be the fastest: the others are compared, and the end says what is not known."""
    world = World(
        plan({"m": 3}),
        lambda launch, n: point(None) if launch.cell == "m c2" else speeds(launch, n),
    )
    found = answer(world.run())
    assert found.unmeasured == ("m c2",)
    assert found.standing is Standing.UNRESOLVED


def test_nothing_serves() -> None:
    """All candidates out of memory: no recommendation, the reasons told, the least wanted first."""
    found = answer(World(plan({"big": 1, "small": 1}), lambda launch, n: Cause.OOM_LOAD).run())
    assert found.recommended is None
    assert found.exit_reason is ExitReason.NO_FEASIBLE
    assert found.sentence.index("small") < found.sentence.index("big")


def test_a_model_out_of_memory_at_the_default_is_tried_with_its_smallest_setting() -> None:
    """The biggest model is given up only when not even its leanest setting serves."""
    cells = (
        cell("m", "c0", default=True, memory=(512.0, 4.0, 2.0)),
        cell("m", "c1", memory=(512.0, 4.0, 1.0)),
        cell("m", "c2", memory=(512.0, 1.0, 1.0)),
    )
    made = plan().model_copy(update={"models": (Model(name="m", artifact="sha256:m", cells=cells),)})
    world = World(made, lambda launch, n: Cause.OOM_LOAD if launch.cell == "m c0" else point(50.0))
    search = world.run()
    assert world.readings[1].launch.cell == "m c2"
    assert search.default.id == "m c2"


def test_out_of_memory_rules_out_what_needs_no_less() -> None:
    """A failure by memory prunes the larger settings, and only those; it is seen twice before it prunes three."""
    made = plan({"m": 6})
    world = World(made, lambda launch, n: Cause.OOM_LOAD if int(launch.cell[-1]) >= 2 else point(50.0))
    search = world.run()
    launched = {r.launch.cell for r in world.readings}
    pruned = {p.cell: p.source for p in search.implied}
    assert launched | set(pruned) == {f"m c{k}" for k in range(6)}
    assert {"m c0", "m c1"} <= launched
    assert all(int(source[-1]) <= int(name[-1]) for name, source in pruned.items())
    assert answer(search).recommended in {"m c0", "m c1"}


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.HANG, Cause.BAD_FLAG, Cause.TOO_LONG])
def test_other_failures_rule_out_nothing_else(cause: Cause) -> None:
    """Only memory is monotone: a crash of one setting says nothing of another."""
    world = World(plan({"m": 4}), lambda launch, n: cause if launch.cell == "m c1" else point(50.0))
    search = world.run()
    assert search.implied == ()
    assert set(search.arms) == {"m c0", "m c2", "m c3"}
    assert [r.launch.cell for r in world.readings].count("m c1") == 1


def test_what_cannot_fit_is_never_launched() -> None:
    """A setting that is ruled out by its bytes before the study costs no launch."""
    pruned = (Pruned(cell="m c3", reason="cannot fit"),)
    world = World(plan(pruned=pruned), speeds)
    assert answer(world.run()).infeasible["m c3"] == "cannot fit"
    assert not any(r.launch.cell == "m c3" for r in world.readings)


def test_an_invalid_launch_is_repeated_once_and_never_counts() -> None:
    """A reading during which the client was too slow is taken again; its value is not used."""
    bad = iter([True])
    world = World(plan(), lambda launch, n: point(None) if n == 4 and next(bad, False) else speeds(launch, n))
    world.run()
    fourth, fifth = world.readings[3], world.readings[4]
    assert fourth.state is ReadingState.INVALID
    assert (fifth.launch.block, fifth.launch.position) == (fourth.launch.block, fourth.launch.position)
    assert fifth.launch.attempt == 2


def test_a_level_is_judged_over_all_launches() -> None:
    """One late request in one launch does not rule a setting out where it has many requests behind it."""
    world = World(plan({"m": 2}), lambda launch, n: point(50.0, late=1 if n == 9 else 0, n=40, ttft_ms=100.0))
    assert set(world.run().arms) == {"m c0", "m c1"}


def test_the_default_stands_in_every_block_and_confirmation_is_mirrored() -> None:
    """Each block holds the default; blocks of confirmation read the same from both ends."""
    world = World(plan({"m": 6}), lambda launch, n: point(100.0 * wobble(n)))
    world.run()
    blocks: dict[int, list[str]] = {}
    stages: dict[int, Stage] = {}
    for r in world.readings:
        if r.launch.block:
            blocks.setdefault(r.launch.block, []).append(r.launch.cell)
            stages[r.launch.block] = r.launch.stage
    assert all("m c0" in cells for cells in blocks.values())
    confirmed = [cells for number, cells in blocks.items() if stages[number] is Stage.CONFIRM]
    assert confirmed
    assert all(cells == cells[::-1] for cells in confirmed)
    assert len({tuple(c) for c in confirmed}) == min(2, len(confirmed))


def test_time_that_is_up_leaves_a_partial_answer() -> None:
    """The best so far is told and marked; nothing more is launched."""
    made = plan({"m": 6}, budget=Budgeted(max_duration_s=5.0))
    world = World(made, lambda launch, n: point(100.0))
    found = answer(world.run())
    assert len(world.readings) == 5
    assert found.partial
    assert found.exit_reason is ExitReason.BUDGET_PARTIAL
    assert found.recommended == "m c0"
    assert not found.settled


def test_time_that_is_up_before_a_model_serves() -> None:
    """No model, no recommendation, and its own reason."""
    made = plan({"a": 1, "b": 1, "c": 1}, budget=Budgeted(max_duration_s=2.0))
    found = answer(World(made, lambda launch, n: Cause.OOM_LOAD).run())
    assert (found.recommended, found.exit_reason) == (None, ExitReason.BUDGET_NO_MODEL)


def test_a_resumed_study_measures_the_default_first() -> None:
    """After a pause a sentinel comes before anything else, once; where it agrees nothing is said."""
    world = World(plan({"m": 6}), lambda launch, n: point(100.0 * wobble(n)))
    for _ in range(6):
        world.step()
    launch = world.step(session=1)
    assert launch is not None
    assert (launch.stage, launch.cell) == (Stage.SENTINEL, "m c0")
    found = answer(world.run(session=1))
    assert [r.launch.stage for r in world.readings].count(Stage.SENTINEL) == 1
    assert found.sentinels[0].agrees
    assert not any("disagrees" in text for text in found.remarks)


def test_a_machine_that_changed_while_the_study_stood_still_is_told() -> None:
    """Half the speed after the pause: said, and the answer is as it was."""
    world = World(plan(), speeds)
    for _ in range(7):
        world.step()
    world.answers = lambda launch, n: point(0.5 * SPEEDS[launch.cell.split()[1]] * wobble(n))
    found = answer(world.run(session=1))
    assert found.sentinels
    assert not found.sentinels[0].agrees
    assert any("disagrees" in text for text in found.remarks)
    assert found.recommended == "m c1"


@pytest.mark.parametrize(("share", "told"), [(0.4, True), (0.02, False), (None, False)])
def test_others_on_the_machine_are_told(share: float | None, told: bool) -> None:
    """Their share of the processors stands in the answer once it is one that matters."""
    world = World(plan(), speeds)
    world.run()
    watched = tuple(r.model_copy(update={"others_frac": share}) for r in world.readings)
    remarks = answer(Search(world.plan, watched)).remarks
    assert any("other processes used 40% of the processors" in text for text in remarks) is told


def test_settings_whose_answers_differ_in_length_are_told() -> None:
    """Tokens per second of short answers are not those of long ones."""
    world = World(plan(), speeds)
    world.run()
    length = {"m c0": 32.0, "m c1": 32.5, "m c2": 20.0, "m c3": 32.0}
    seen = tuple(
        r.model_copy(
            update={
                "points": tuple(
                    p.model_copy(update={"output_tokens": length[r.launch.cell]}) for p in r.points
                )
            }
        )
        for r in world.readings
    )
    remarks = " ".join(answer(Search(world.plan, seen)).remarks)
    assert "answers of m c2 are 38% shorter than those of m c1" in remarks


def test_a_finished_race_is_not_begun_again_by_a_resume() -> None:
    """Nothing is measured after the end, not even a sentinel."""
    world = World(plan(), speeds)
    world.run()
    assert Search(world.plan, tuple(world.readings), session=1).next_launch() is None


def test_the_chosen_setting_is_measured_at_other_contexts_until_memory_ends() -> None:
    """Contexts rise; beyond one that is out of memory none is tried."""
    made = plan(contexts=(4096, 1024, 2048))
    world = World(made, lambda launch, n: Cause.OOM_LOAD if launch.context == 2048 else speeds(launch, n))
    found = answer(world.run())
    mapped = [r.launch for r in world.readings if r.launch.stage is Stage.MAP]
    assert [x.context for x in mapped] == [1024, 2048]
    assert {x.cell for x in mapped} == {found.recommended}
    assert found.recommended == "m c1"


def test_the_sources_rule_as_policy_takes_cells_in_order() -> None:
    """Three readings of each cell one after the other, and its answer is not called proven."""
    made = plan(race=RacePolicy(policy="sequential_band"))
    world = World(made, speeds)
    found = answer(world.run())
    raced = [r.launch.cell for r in world.readings if r.launch.stage is Stage.SCREEN]
    assert raced == [f"m c{k}" for k in range(4) for _ in range(3)]
    assert found.recommended == found.sequential_band == "m c1"
    assert "proves nothing" in found.sentence
    assert found.standing is Standing.UNRESOLVED


def test_the_fastest_of_all_models_where_that_is_asked() -> None:
    """Objective `throughput`: the settings of every model race each other."""
    made = plan({"big": 2, "small": 2}, objective="throughput")
    world = World(
        made, lambda launch, n: point((300.0 if launch.cell.startswith("small") else 100.0) * wobble(n))
    )
    assert answer(world.run()).model == "small"
