"""The HTML report: self-contained, escaped, complete, and readable in whatever state the study is."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import pytest
from parsed_page import balanced
from release_world import TASKS, World, failing

from assay.core.canon import digest
from assay.core.errors import ComponentFailed, Interrupted
from assay.core.vocabulary import FailureClass, Outcome
from assay.ledger.memory import MemoryStore
from assay.report._view.release.page import build_page
from assay.report.pages import write_page
from assay.report.release import render

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>\x1b[31mred\x1b[0m\x00\u202eevil & {{ 7*7 }} ok"


def test_decision_and_why_come_first(finished: World) -> None:
    """Word, published candidate, reason, saving and ladder stand before anything else."""
    text = balanced(finished.page).text
    first = text[: text.index("Sizes and precision")]
    for part in (
        "ACCEPT",
        "good is published",
        "It lies in its target",
        "800 pairs",
        "63 % smaller",
        "assay verify small-1",
    ):
        assert part in first
    for name, word in (
        ("bad", "REGRESSION"),
        ("unsure", "INCONCLUSIVE"),
        ("good", "ACCEPT"),
        ("never", "NOT TRIED"),
    ):
        assert re.search(rf"{word}\s+{name}\b", first), name


def test_nothing_is_loaded_from_anywhere(finished: World) -> None:
    """No attribute names another file, no style imports one, and the page forbids it to itself."""
    page = finished.page
    parsed = balanced(page)
    for tag, attributes in parsed.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image"}
        for name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in style
    assert not re.search(r"url\((?!#)", style)
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_script_is_the_one_that_the_policy_allows(finished: World) -> None:
    """The content security policy names the digest of the only script."""
    page = finished.page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    hashed = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in html.unescape(page)


def test_every_gate_and_reason_is_there(finished: World) -> None:
    """Each gate of each Decision stands in the page with its detail and every reason of its verdict."""
    text = balanced(finished.page).text
    seen = 0
    for trial in finished.history.trials.values():
        assert trial.decision is not None
        for line in trial.decision.gates:
            assert line.gate in text
            if line.verdict:
                verdict = finished.store.get(line.verdict)
                assert verdict["detail"] in text
                for reason in verdict["reasons"]:
                    assert reason["text"] in text
                    seen += 1
            else:
                assert f"NOT REACHED {line.gate}" in text
    assert seen > 20


def test_full_digests_are_kept(finished: World) -> None:
    """Every verdict, every stored evidence and the ledger head are in the page with their whole digest."""
    page = finished.page
    for trial in finished.history.trials.values():
        assert trial.decision is not None
        wanted = [line.verdict for line in trial.decision.gates if line.verdict]
        wanted += [record.evidence for record in trial.steps.values() if record.evidence]
        wanted.append(trial.decision.head)
        assert [d for d in wanted if d not in page] == []


def test_forest_shows_every_task_and_the_mean(finished: World) -> None:
    """Each estimate is drawn with its interval, limit, flips and pairs, and told in words beside the plot."""
    page = build_page(finished.store, finished.history)
    comparison = page.candidates[1].comparison
    assert comparison is not None
    assert [r.task for r in comparison.rows] == ["mean over tasks", *TASKS]
    for row in comparison.rows:
        assert row.low is not None
        assert row.high is not None
        assert row.limit is not None
        assert 0 <= row.low < row.at < row.high <= 100
        assert row.label in html.unescape(finished.page)
    macro = comparison.rows[0]
    assert (macro.lost, macro.won, macro.pairs) == ("12", "0", "800")
    assert macro.low < macro.limit < macro.high  # type: ignore[operator] - asserted above


def test_accepted_interval_lies_in_the_region(finished: World) -> None:
    """The geometry tells the verdict: inside the region for ACCEPT, beyond the margin for REGRESSION."""
    page = build_page(finished.store, finished.history)
    good, bad = page.candidates[2].comparison, page.candidates[0].comparison
    assert good is not None
    assert bad is not None
    assert good.rows[0].high < good.rows[0].limit  # type: ignore[operator] - both are drawn
    assert bad.rows[0].low > bad.rows[0].limit  # type: ignore[operator]


def test_point_rule_stands_beside_ours(finished: World) -> None:
    """Where the two rules differ, the page says why."""
    page = build_page(finished.store, finished.history)
    points = [c.comparison.point for c in page.candidates if c.comparison]
    assert [p.agrees for p in points if p] == [True, False, True]
    differing = points[1]
    assert differing is not None
    assert "bare number" in differing.why
    assert differing.why in balanced(finished.page).text


def test_precision_is_a_picture_with_words(finished: World) -> None:
    """Layers by modules, each row told in words, colours in a legend."""
    picture = build_page(finished.store, finished.history).pictures[0].precision
    assert picture is not None
    (grid,) = picture.grids
    assert [(r.name, r.made_of) for r in grid.rows] == [
        ("self_attn.q_proj", "INT4 \u00d7 3"),
        ("mlp.down_proj", "INT4 \u00d7 3"),
    ]
    assert len(grid.cells) == 6
    assert [s.scheme for s in picture.legend] == ["INT4", "BF16"]
    assert [s.name for s in picture.singles] == ["lm_head"]


def test_sizes_are_drawn_to_one_scale(finished: World) -> None:
    """The source fills the bar and every candidate its share."""
    bars = build_page(finished.store, finished.history).sizes
    widths = [sum(s.width for s in bar.segments) for bar in bars]
    assert widths[0] == pytest.approx(100, abs=0.01)
    assert widths[1] == pytest.approx(37.4, abs=0.1)


def test_timeline_marks_shared_steps(finished: World) -> None:
    """The baseline is drawn once and named as shared for the later candidates."""
    trials = build_page(finished.store, finished.history).timeline.trials
    first, second = ({lane.step: lane for lane in t.lanes} for t in trials[:2])
    assert first["baseline"].bars[0].style == "shared"
    assert (second["baseline"].bars, second["baseline"].text) == ((), "shared")
    assert second["evaluate"].bars[0].style == "done"


def test_runs_are_listed_with_command_and_end(finished: World) -> None:
    """Every recorded command stands in the page."""
    text = balanced(finished.page).text
    for name in ("source", "bad", "unsure", "good"):
        assert f"lm_eval {name}" in text
    assert "exit 0" in text


def test_contract_and_versions(finished: World) -> None:
    """Margin, error rate, comparisons, harness and engine are told."""
    text = balanced(finished.page).text
    for part in (
        "1.0 points",
        "shared by 4 comparisons: 1.25 % each",
        "lm_eval 0.4.13",
        "transformers 5.14.1",
    ):
        assert part in text
    assert "measured" in text


def test_same_ledger_same_page(finished: World) -> None:
    """Nothing but the ledger and the store goes in: two renderings are equal."""
    assert finished.page == finished.page


def test_interrupted_study(world: World) -> None:
    """An interrupted study says so, names the command that goes on, and shows what is there."""
    world.script.fail = {"evaluate unsure results": [Interrupted("SIGINT")]}  # type: ignore[list-item]
    with pytest.raises(Interrupted):
        world.run()
    text = balanced(world.page).text
    assert "INTERRUPTED" in text
    assert "assay resume small-1" in text
    assert "1 candidate judged so far" in text
    assert "NOT REACHED compare" in text


def test_retry_and_resumption_are_in_the_timeline(world: World) -> None:
    """A failed attempt, a cut one and the pause before the resumption can be seen."""
    flaky = ComponentFailed("reset by peer", failure_class=FailureClass.SYSTEMIC)
    killed = Interrupted("SIGTERM")
    world.script.fail = {"evaluate good results": [killed, flaky]}  # type: ignore[list-item]
    with pytest.raises(Interrupted):
        world.run()
    world.run()
    timeline = build_page(world.store, world.history).timeline
    lane = next(x for t in timeline.trials if t.candidate == "good" for x in t.lanes if x.step == "evaluate")
    assert [b.style for b in lane.bars] == ["cut", "failed"]
    assert len(timeline.cuts) == 1
    assert any("reset by peer" in note for note in lane.notes)


def test_aborted_study(world: World) -> None:
    """A study that a systemic failure ended shows the failure, its advice and the end of the log."""
    broken = ComponentFailed("no disk", failure_class=FailureClass.SYSTEMIC, log_tail="Traceback: ENOSPC")
    world.script.fail = {"build bad": [broken]}
    world.run()
    text = balanced(world.page).text
    for part in (
        "ANOMALOUS",
        "no disk",
        "SYSTEMIC",
        "Traceback: ENOSPC",
        "assay resume small-1",
        "NOT REACHED compare",
    ):
        assert part in text


def test_study_without_a_trial(world: World) -> None:
    """A study that was just opened has a page."""

    class _Stop(BaseException):
        pass

    def stop(_call: str) -> None:
        raise _Stop

    world.script.before = stop
    with pytest.raises(_Stop):
        world.run()
    events = [e for e in world.ledger.read() if e.type == "study.opened"]
    world.ledger._events = events
    text = balanced(world.page).text
    assert "UNFINISHED" in text
    assert "no candidate judged so far" in text


@pytest.mark.parametrize("count", range(1, 60, 4))
def test_a_page_at_every_event(finished: World, count: int) -> None:
    """Cut off after any event, the ledger still gives a whole page."""
    finished.ledger._events = finished.ledger._events[:count]
    balanced(finished.page)


def test_point_policy(tmp_path: Path) -> None:
    """A study judged by the point rule is drawn without intervals."""
    world = World(tmp_path, names=("good",), policy={"policy": "point"}).run()
    comparison = build_page(world.store, world.history).candidates[0].comparison
    assert comparison is not None
    assert [(r.task, r.low, r.mark.word) for r in comparison.rows] == [
        ("add", None, "PASS"),
        ("sort", None, "PASS"),
    ]
    balanced(world.page)


def test_trial_that_was_not_compared(tmp_path: Path) -> None:
    """A candidate that the checkpoint gate refused has its reason and no plot."""
    world = World(
        tmp_path, names=("bad",), verdicts={"checkpoint": failing("checkpoint", "12 layers missed")}
    ).run()
    page = build_page(world.store, world.history)
    assert page.headline.mark.word == Outcome.INFEASIBLE.value
    assert page.candidates[0].comparison is None
    text = balanced(world.page).text
    assert "12 layers missed" in text
    assert "It was not compared with its source" in text


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    """Names, details, reasons and logs with markup, terminal codes and control characters change nothing."""
    verdicts = {"comparability": failing("comparability", HOSTILE)}
    world = World(tmp_path, names=(HOSTILE,), verdicts=verdicts).run()
    page = world.page
    parsed = balanced(page)
    assert [t for t, _ in parsed.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    assert "<script>alert(1)</script>" in parsed.text
    assert "{{ 7*7 }}" in parsed.text


def test_lone_surrogates_can_be_written(finished: World) -> None:
    """Text that no encoding can hold does not keep the report from being written."""
    history = finished.history
    history.study = history.study.model_copy(update={"question": "a\ud800b"})
    history.events = []
    assert "a\ufffdb" in render(finished.store, history).encode("utf-8").decode()


def test_missing_documents_are_named(finished: World) -> None:
    """Without its documents the page says which are gone, and shows the rest."""
    text = balanced(render(MemoryStore(), finished.history)).text
    assert "Some stored documents cannot be shown" in text
    assert "no stored document" in text
    assert "good is published" in text


class _Damaged(MemoryStore):
    """A store that answers with something else."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def get(self, digest: str) -> Any:
        """The wrong document."""
        return self.answer


@pytest.mark.parametrize(
    "answer", [{}, [], None, "x", {"kind": "results"}, {"gate": 3}, {"kind": ["results"]}]
)
def test_damaged_documents_are_named(finished: World, answer: Any) -> None:
    """Documents that are not what they must be are named too."""
    balanced(render(_Damaged(answer), finished.history))


def test_report_is_written_into_the_home(finished: World, tmp_path: Path) -> None:
    """The default place is `reports/<study>.html` of the home; nothing is left beside it."""

    class _Home:
        folder = tmp_path / "home"
        store = finished.store

    path = write_page(_Home(), finished.history)  # type: ignore[arg-type]
    assert path == tmp_path / "home" / "reports" / "small-1.html"
    page = path.read_text(encoding="utf-8")
    assert page == render(finished.store, finished.history, tmp_path)
    assert str(tmp_path) not in page  # paths are told from the project's folder on
    assert [p.name for p in path.parent.iterdir()] == ["small-1.html"]
    elsewhere = tmp_path / "deep" / "r.html"
    assert write_page(_Home(), finished.history, elsewhere) == elsewhere  # type: ignore[arg-type]
    assert elsewhere.exists()


def test_page_of_a_live_history_is_that_of_its_replay(finished: World) -> None:
    """What the engine holds in memory beyond the ledger does not show."""
    live = finished.history
    borrowed = live.trials["small-1-1"].steps["baseline"]
    live.trials["small-1-2"].steps["baseline"] = borrowed
    assert render(finished.store, live) == finished.page


def test_digest_of_the_store_is_not_trusted_blindly(finished: World) -> None:
    """A verdict document under another digest is shown by the digest that the ledger names."""
    line = finished.history.trials["small-1-3"].gates["compare"]
    assert digest(dict(finished.store.get(line.verdict))) == line.verdict
    assert line.verdict in finished.page
