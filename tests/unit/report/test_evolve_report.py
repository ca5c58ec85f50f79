"""The report of a study of texts: every state has a page, figures come from the evidence, nothing foreign gets in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evolve_world import AFTER, BEFORE, CANARIES, TASKS, World
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import standing_alone

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRun, AgentRuns
from assay.core.evolution import Evolution, TextNode
from assay.ledger.evolve_records import EvolveRecord, Look, of_study
from assay.report._view.evolve.costs import costs
from assay.report._view.evolve.diff import diff
from assay.report._view.evolve.gain import gain_of
from assay.report._view.evolve.growth import scatter
from assay.report._view.evolve.lineage import lineage
from assay.report._view.evolve.nodes import promised
from assay.report._view.evolve.outcomes import outcomes
from assay.report._view.evolve.page import build_page
from assay.report._view.evolve.rules import rulings
from assay.report._view.evolve.tasks import dumbbell, rate
from assay.report.evolve import render
from assay.report.judged_texts import stored_texts

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\x1b[31m\x00\u202eevil & \"quoted\" 'too' {{ 7 * 7 }} ]]> --"


def view(world: World) -> Any:
    """The page as data."""
    texts = {r.trial.id: stored_texts(r) for r in of_study(world.history, world.store)}
    return build_page(world.store, world.history, texts)


def run(task: str, arm: str, rep: int, outcome: AgentOutcome, **more: Any) -> AgentRun:
    """One run."""
    score = None if outcome is AgentOutcome.INFRA_ERROR else float(outcome is AgentOutcome.PASS)
    return AgentRun(**{"task": task, "arm": arm, "rep": rep, "outcome": outcome, "score": score, **more})


def test_the_page_shows_what_the_study_holds(tmp_path: Path) -> None:
    """Both rules, the difference, tasks, canaries, the change, the search, and what it cost."""
    page = standing_alone(World(tmp_path).run().page)
    for text in (
        "The new text does better",
        "assay apply repair-1-1",
        "Two rules, the same runs",
        "+3 tasks gained in one pass, 1 needed",
        "Gain of the mean",
        "46 % → 72 %",
        "2 of 2 canaries prove that the text reaches the agent.",
        "Integer division rounds down",
        "297",
        "Growth against gain",
        "no network",
    ):
        assert text in page, text
    for task in (*TASKS, *CANARIES):
        assert task in page


@pytest.mark.parametrize(
    ("outcome", "word", "headline"),
    [
        ("accept", "ACCEPT", "The new text does better"),
        ("refuse", "REGRESSION", "The new text does worse"),
        ("inconclusive", "INCONCLUSIVE", "It is not settled whether the new text does better"),
        ("static", "INFEASIBLE", "The new text may not be tried"),
        ("dead", "INFEASIBLE", "No candidate could be judged"),
        ("nothing", "NO GAIN", "Nothing better was found"),
    ],
)
def test_every_ending_says_so_at_the_top(outcome: str, word: str, headline: str, tmp_path: Path) -> None:
    """The word of the Decision, and a sentence that a person understands."""
    world = World(tmp_path, outcome=outcome).run()
    page = view(world)
    assert (page.headline.mark.word, page.headline.text) == (word, headline)
    standing_alone(world.page)


@pytest.mark.parametrize("outcome", ["accept", "refuse", "inconclusive", "static", "dead", "nothing"])
def test_killed_at_any_event_there_is_a_page(outcome: str, tmp_path: Path) -> None:
    """Before the preflight, in the search, between looks: the ledger so far has a page, and it claims no Decision."""
    world = World(tmp_path, outcome=outcome).run()
    count = len(list(world.ledger.read()))
    assert count > 6
    for events in range(1, count):
        history = world.after_events(events)
        page = standing_alone(render(world.store, history, tmp_path))
        if not history.decisions:
            assert "UNFINISHED" in page
            assert "assay resume repair-1" in page
            assert "assay apply" not in page


def test_an_open_question_says_how_many_runs_settle_it(tmp_path: Path) -> None:
    """INCONCLUSIVE names what is missing, and the rule before ours would have deployed."""
    found = view(World(tmp_path, outcome="inconclusive").run()).candidates[0]
    assert found.needed.startswith("About 424 more agent runs")
    assert found.rulings_text.startswith("The rule before it would deploy this text.")
    assert [r.mark.word for r in found.looks.rows] == ["GOES ON", "GOES ON", "INCONCLUSIVE"]


def test_the_true_gates_are_read(tmp_path: Path) -> None:
    """Their estimates, bars, looks and the other rule's word come onto the page as they give them."""
    world = World(tmp_path, outcome="real").run()
    page = view(world)
    found = page.candidates[0]
    assert page.headline.mark.word == "ACCEPT"
    assert [f.label for f in page.headline.figures][:3] == ["Gain of the mean", "Pass rate", "Length"]
    assert found.looks is not None
    assert [r.who for r in found.rulings] == ["this study", "the rule before it"]
    assert found.rulings[1].text.endswith("needed")
    assert page.preflight is not None
    assert page.preflight.band == "healthy"
    assert [label for label, _, _ in page.preflight.facts] == [
        "pass rate as it stands",
        "it earns over no text",
        "a task ends differently",
        "chance to find a perfect text",
    ]
    standing_alone(world.page)


def test_better_and_too_long_is_told_as_both(tmp_path: Path) -> None:
    """A gain that is shown, and not known to earn the growth, is not called unknown."""
    policy = {"growth_free": 0.0, "growth_slope": 3.0}
    world = World(tmp_path, outcome="real", policy=policy, rates={"baseline": 0.25, "candidate": 0.75}).run()
    page = view(world)
    assert page.headline.mark.word == "INCONCLUSIVE"
    assert page.headline.text == "The new text does better, and it is not settled whether it earns its length"


def test_where_the_rule_before_decides_ours_stands_beside(tmp_path: Path) -> None:
    """`rules: seed`: its word first, then what the sound rules say of the same runs."""
    found = view(World(tmp_path, outcome="real", policy={"rules": "seed"}).run()).candidates[0]
    assert [r.who for r in found.rulings] == ["this study, by the rule before ours", "the sound rules"]


def test_a_shorter_text_that_is_no_worse_says_so(tmp_path: Path) -> None:
    """Accepted without a gain: the headline does not claim one."""
    same = {"baseline": 0.6, "candidate": 0.6, "empty": 0.2}
    policy = {"equivalent_margin": 0.45, "growth": "off"}
    world = World(tmp_path, outcome="real", after=BEFORE[:200], rates=same, policy=policy).run()
    assert view(world).headline.text == "The new text does as well, and is shorter"


def test_damaged_documents_are_named(tmp_path: Path) -> None:
    """Runs that are gone from the store leave a page that says which."""
    world = World(tmp_path).run()
    step = next(iter(world.history.trials.values())).steps["confirm-2"]
    del world.store._documents[step.evidence or ""]
    page = standing_alone(world.page)
    assert "Some stored documents cannot be shown." in page
    assert (step.evidence or "")[7:19] in page


def test_the_same_ledger_gives_the_same_page(tmp_path: Path) -> None:
    """Nothing but history and store is read: without any file the page is the same."""
    world = World(tmp_path).run()
    before = world.page
    (tmp_path / "skills").rename(tmp_path / "gone")
    assert world.page == before


def test_several_candidates_have_a_section_each(tmp_path: Path) -> None:
    """Each is told by its name, and what may be applied is the accepted one."""
    world = World(tmp_path, names=("one", "two")).run()
    page = standing_alone(world.page)
    assert page.count('<section class="cand"') == 2
    assert view(world).headline.text == "2 of 2 new texts do better"


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Markup, escape sequences and template code in texts and answers of agents are shown, never followed."""
    world = World(
        tmp_path,
        before=f"{BEFORE}\n{HOSTILE}",
        after=f"{AFTER}\n{HOSTILE}\n\n",
        said=HOSTILE,
    )
    page = standing_alone(world.run().page)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert ">49<" not in page


def test_a_path_in_the_text_is_shown_as_it_stands(tmp_path: Path) -> None:
    """The project's folder is left out of paths of the page, and never out of what would be deployed."""
    world = World(tmp_path, after=f"{AFTER}\nRun {tmp_path}/tools/x.\n")
    assert f"{tmp_path}/tools/x" in world.run().page


@pytest.mark.parametrize("suite", [(), ("only",), tuple(f"t{i}" for i in range(450))])
def test_any_number_of_tasks(suite: tuple[str, ...], tmp_path: Path) -> None:
    """None, one, or more than a page holds."""
    page = standing_alone(World(tmp_path, tasks=suite).run().page)
    assert ("and 150 more tasks" in page) == (len(suite) == 450)


def test_rates_count_as_the_gate_counts() -> None:
    """Infra errors are no failure, breaking down and meddling are; the interval is Wilson's."""
    runs = [
        run("t", "a", 1, AgentOutcome.PASS),
        run("t", "a", 2, AgentOutcome.PASS, tampered=("tests/x",)),
        run("t", "a", 3, AgentOutcome.AGENT_TIMEOUT),
        run("t", "a", 4, AgentOutcome.TASK_FAIL),
        run("t", "a", 5, AgentOutcome.INFRA_ERROR),
    ]
    found = rate(runs)
    assert (found.passed, found.n, found.lost, found.text) == (1, 4, 1, "1/4")
    assert found.low == pytest.approx(0.0456, abs=1e-3)
    assert found.high == pytest.approx(0.6994, abs=1e-3)
    assert rate([]).value is None
    assert rate(runs[-1:]).text == "no run"


def test_scores_between_have_no_interval() -> None:
    """A share of a task is no count: no Wilson interval is made up."""
    found = rate([run("t", "a", 1, AgentOutcome.TASK_FAIL, score=0.5), run("t", "a", 2, AgentOutcome.PASS)])
    assert (found.value, found.low, found.text) == (0.75, None, "0.75 of 2")


def test_tasks_stand_by_how_much_they_moved() -> None:
    """The largest gain first, canaries apart, and the directions are told."""
    arms = {BASELINE: 2, CANDIDATE: 2}
    passed, failed = AgentOutcome.PASS, AgentOutcome.TASK_FAIL
    held = [
        run(task, arm, rep, outcome)
        for task, before, after in (
            ("same", passed, passed),
            ("worse", passed, failed),
            ("better", failed, passed),
        )
        for arm, outcome in ((BASELINE, before), (CANDIDATE, after))
        for rep in (1, 2)
    ]
    runs = AgentRuns(
        subject="c",
        suite="s",
        runner="r",
        tasks=("same", "worse", "better", "canary"),
        canaries=("canary",),
        repeats=arms,
        runs=tuple(held),
    )
    found = dumbbell(runs)
    assert [(r.task, r.tone, r.difference) for r in found.rows] == [
        ("better", "good", "+100"),
        ("same", "idle", "0"),
        ("worse", "bad", "\u2212100"),
    ]
    assert [r.task for r in found.canaries] == ["canary"]
    assert found.summary.startswith(
        "3 tasks: 1 passed more often with the candidate, 1 less often, 1 as often"
    )
    assert [[p.style for p in a.parts] for a in outcomes(runs)] == [["pass", "fail"], ["pass", "fail"]]


def test_a_gain_is_the_drop_turned_round(tmp_path: Path) -> None:
    """Positive is better on the page, with the bounds in their order."""
    record = of_study((world := World(tmp_path).run()).history, world.store)[0]
    gain = gain_of(record.deploy)
    assert gain is not None
    assert gain.value == pytest.approx(0.26)
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low < gain.value < gain.high
    assert gain.bar == pytest.approx(0.03)


ODD: tuple[Any, ...] = (None, [], {}, "x" * 5_000, 1e308, -1, True, {"decision": 3, "document": []}, HOSTILE)


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_figures_of_any_shape_are_shown_or_left_out(value: Any, tmp_path: Path) -> None:
    """What a gate adds for reports may be anything: nothing depends on it, and no page breaks on it."""
    names = (
        "seed",
        "sound",
        "rules",
        "band",
        "rate",
        "interval",
        "empty",
        "noise",
        "forced",
        "p_better",
        "bar",
    )
    odd = dict.fromkeys(names, value)
    world = World(tmp_path).run()
    record = of_study(world.history, world.store)[0]
    for gate, line in next(iter(world.history.trials.values())).gates.items():
        if gate in {"deploy", "preflight"}:
            world.store._documents[line.verdict] = {**world.store._documents[line.verdict], "extra": odd}
    standing_alone(world.page)
    assert record.deploy is not None
    assert rulings(
        EvolveRecord(record.trial, looks=(Look("x", record.deploy.model_copy(update={"extra": odd})),))
    )


# -- the search ---------------------------------------------------------------------------------------


def node(number: int, *parents: int, state: Any = "kept", **more: Any) -> TextNode:
    """One text."""
    return TextNode(
        **{
            "number": number,
            "parents": parents,
            "text": f"t{number}",
            "chars": 100 + number,
            "state": state,
            **more,
        }
    )


def evolved(*nodes: TextNode, picked: int = 0) -> Evolution:
    """A search."""
    return Evolution(subject="c", engine="own", nodes=nodes, picked=picked)


def test_the_way_to_the_candidate_is_one_line() -> None:
    """All that leads to the candidate stands on the first lane; a branch that led nowhere beside it."""
    found = lineage(
        evolved(node(0, state="baseline"), node(1, 0), node(2, 0), node(3, 1), node(4, 3), picked=4)
    )
    assert found is not None
    lanes = {r.number: r.x for r in found.rows}
    assert lanes["#0"] == lanes["#1"] == lanes["#3"] == lanes["#4"]
    assert lanes["#2"] > lanes["#0"]
    assert [r.number for r in found.rows if r.style == "picked"] == ["#4"]


def test_what_was_not_kept_is_counted_in_one_row() -> None:
    """Rejected, refused and repeated ones in a row are crosses, each with its reason."""
    found = lineage(
        evolved(
            node(0, state="baseline"),
            node(1, 0, state="rejected", why="no better"),
            node(2, 0, state="refused", why="too long"),
            node(3, 0, state="repeated"),
            node(4, 0),
            picked=4,
        )
    )
    assert found is not None
    dropped = found.rows[1]
    assert dropped.made_by == "1 rejected, 1 refused, 1 repeated"
    assert [title.rpartition(": ")[2] for _, title in dropped.crosses] == ["no better", "too long", ""]
    assert found.summary.startswith("4 texts proposed: 1 text kept, 1 no better where tried")


STATES = st.sampled_from(["kept", "rejected", "refused", "repeated", "baseline"])
NODES = st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(0, 60), max_size=3), STATES), max_size=40)


@given(NODES, st.integers(0, 60))
def test_any_lineage_is_drawn(given_nodes: list[tuple[int, list[int], Any]], picked: int) -> None:
    """Parents that are missing, later or themselves, merges and gaps: one row a kept text, none twice."""
    found = evolved(*(node(n, *parents, state=state) for n, parents, state in given_nodes), picked=picked)
    drawn = lineage(found)
    numbers = {n for n, _, _ in given_nodes}
    assert (drawn is None) == (len(numbers) < 2)
    if drawn is not None:
        shown = [r.number for r in drawn.rows if r.number]
        assert len(shown) == len(set(shown))
        assert all(0 < r.x < drawn.width for r in drawn.rows if r.number)
    scatter(found, None, 0.2, 0.3)
    promised(found)


def test_the_promise_is_told_beside_what_it_is_worth(tmp_path: Path) -> None:
    """The candidate's gain where it was chosen, and on fresh draws."""
    found = view(World(tmp_path).run()).candidates[0]
    assert "The best of many looks better than it is" in found.shrunk
    assert found.scatter.confirmed is not None
    assert found.scatter.drop is not None


# -- the change ---------------------------------------------------------------------------------------


def test_changed_words_are_marked_inside_a_line() -> None:
    """Only what differs is marked, as one piece."""
    found = diff(
        "a\nRead the failing test first.\nb\n", "a\nRead the failing test first, then the function.\nb\n"
    )
    marked = [(line.sign, p.text) for line in found.lines for p in line.pieces if p.changed]
    assert marked == [("+", ", then the function")]
    assert found.summary.startswith("1 line added, 1 taken away")


def test_a_diff_holds_both_texts() -> None:
    """The lines without what came are the old text's, those without what went the new one's."""
    found = diff(BEFORE, AFTER)
    for sign, text in (("-", BEFORE), ("+", AFTER)):
        held = ["".join(p.text for p in line.pieces) for line in found.lines if line.sign in {sign, " "}]
        assert all(line in text.split("\n") for line in held)


def test_huge_texts_end_in_bounds() -> None:
    """A page never holds more lines than it can show, and says how many are missing."""
    found = diff("".join(f"line {i}\n" for i in range(4_000)), "".join(f"other {i}\n" for i in range(4_000)))
    assert len(found.lines) == 1_500
    assert found.more.startswith("and ")
    assert diff("x\n" * 30_000, "y").more == "the texts are too long to be compared here"
    assert "(100,000 characters)" in diff("x" * 100_000, "y").lines[1].pieces[0].text


def test_only_line_ends_differ() -> None:
    """CRLF against LF is told in words, not as a rewrite of every line."""
    found = diff("a\r\nb\r\n", "a\nb\n")
    assert found.lines == ()
    assert found.summary.startswith("Only line ends or blanks differ")


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_two_texts_have_a_diff(before: str, after: str) -> None:
    """Total for any two texts."""
    diff(before, after)


@pytest.mark.parametrize(
    ("price", "told"), [(0.5, "0.30 known, 2.00 assumed"), (None, "0.30 known, 2 runs untold")]
)
def test_attempts_that_told_no_cost_are_counted(price: float | None, told: str, tmp_path: Path) -> None:
    """A run whose last attempt told a cost and two before it none is not paid for: it is put down as in the budget."""
    world = World(tmp_path).run()
    record = of_study(world.history, world.store)[0]
    assert record.runs is not None
    runs = (
        run("a", BASELINE, 1, AgentOutcome.PASS, cost=0.3, untold=2),
        run("a", BASELINE, 2, AgentOutcome.PASS, untold=2),
    )
    study = world.history.study
    spec = {**study.spec, "agent": {"price_per_run": price}}
    history = replace(world.history, study=study.model_copy(update={"spec": spec}))
    only = replace(record, runs=record.runs.model_copy(update={"runs": runs}), preflight=None, evolution=None)
    assert costs(history, [only])[1] == told
