"""Story: a release that evaluates in batches on real servers: killed, resumed, verified, and its noise measured."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from twin_project import Project, finished_once, lay_out, published_right

from assay.core.events import Event, EventType

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = ("run", "release.yaml", "--no-report")


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Project]:
    """The twin that draws its items; at the end nothing of it may run."""
    made = lay_out(tmp_path / "drawn", "drawn.yaml")
    yield made
    made.nothing_left()


def decided(project: Project) -> list[Any]:
    """What the study came to, without what the machine alone decides."""
    return [
        (d.candidate, d.outcome.value, d.sentence, [(g.gate, g.step, g.status) for g in d.gates])
        for d in project.history().decisions
    ]


def compared(project: Project) -> list[tuple[str, str]]:
    """Trial and step of every comparison, in order."""
    lines = [(e.data["trial"], e.data["line"]) for e in project.events() if "line" in e.data]
    return [(trial, line["step"]) for trial, line in lines if line["gate"] == "compare"]


def pairs_asked(project: Project, trial: int) -> list[int]:
    """Items that the harness was told to ask in each batch of a candidate."""
    folders = sorted((project.home / "studies").rglob(f"trial-{trial}/evaluate-*"))
    return [sum(map(len, json.loads((f / "samples.json").read_text()).values())) for f in folders]


def strikes(events: list[Event]) -> list[int]:
    """Where to kill: with servers up, in a batch, between two looks, while they end, and before the application."""

    def seq(type_: EventType, number: int, **data: Any) -> int:
        found = [
            e.seq
            for e in events
            if e.type is type_
            and all({**e.data, **e.data.get("line", {})}.get(k) == v for k, v in data.items())
        ]
        return found[number]

    open_look = seq(EventType.VERDICT_RECORDED, 0, gate="compare", open=True)
    return [
        seq(EventType.STEP_FINISHED, 0, step="baseline-1"),
        seq(EventType.STEP_STARTED, 0, step="baseline-2"),
        open_look,
        seq(EventType.STEP_FINISHED, 0, step="evaluate-2"),
        seq(EventType.VERDICT_RECORDED, 1, gate="compare", open=True),
        seq(EventType.VERDICT_RECORDED, -1, gate="compare") + 1,
        seq(EventType.DECISION_RECORDED, -1),
    ]


def test_it_stops_when_it_knows_and_can_be_verified(drawn: Project) -> None:
    """The broken copy ends at the first look, the sound one before the last; servers are started once for all looks."""
    said = drawn.run(*RUN)
    assert said.returncode == 0, said.stderr
    (lossy, sound) = drawn.history().trials.values()
    assert (lossy.gates["compare"].step, lossy.looks) == ("evaluate-1", [])
    assert sound.gates["compare"].step in ("evaluate-2", "evaluate-3", "evaluate-4")
    assert pairs_asked(drawn, 1) == [10]
    assert set(pairs_asked(drawn, 2)) == {10}
    servers = [
        e.data["trial"]
        for e in drawn.events()
        if e.type is EventType.RUN_FINISHED and "llama" in " ".join(e.data["run"]["command"])
    ]
    assert sorted(servers) == ["twin-1-1", "twin-1-1", "twin-1-2", "twin-1-2"]
    published_right(drawn)
    assert drawn.run("verify", "twin-1").returncode == 0


def lane(folder: Path, which: slice) -> int:
    """Some of the kills, one after another in folders of their own."""
    project = lay_out(folder / "whole", "drawn.yaml")
    assert project.run(*RUN).returncode == 0
    expected, looks = decided(project), compared(project)
    places = strikes(project.events())[which]
    for place in places:
        struck = lay_out(folder / str(place), "drawn.yaml")
        assert struck.killed("after", place, *RUN) == -signal.SIGKILL, place
        if place % 2:  # the other half is resumed at once, while the guards still clean up
            struck.nothing_left()
        again = struck.run("resume", "twin-1", "--no-report")
        assert again.returncode == 0, f"{place}: {again.stderr}"
        struck.nothing_left()
        assert decided(struck) == expected, place
        assert compared(struck) == looks, place
        finished_once(struck.events())
        published_right(struck)
        assert struck.run("verify", "twin-1").returncode == 0, place
    return len(places)


def test_killed_between_looks_it_decides_the_same(tmp_path: Path) -> None:
    """`kill -9` with servers up and between looks: the same Decisions, no batch and no look again, no process left."""
    with ThreadPoolExecutor(2) as pool:
        struck = sum(
            pool.map(lambda k: lane(tmp_path / f"lane-{k}", slice(k, None, 2)), (0, 1)),
        )
    assert struck == 7


def test_interrupted_between_answers_it_ends_its_servers(drawn: Project) -> None:
    """Ctrl-C in the middle of a batch: exit 130, the servers that were kept are gone; resuming ends as ever."""
    drawn.hold.touch()
    run = drawn.start(*RUN)
    drawn.asking()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Traceback" not in err
    assert drawn.left() == []
    drawn.hold.unlink()
    assert drawn.run("resume", "twin-1", "--no-report").returncode == 0
    finished_once(drawn.events())
    published_right(drawn)


def test_more_pairs_settle_an_open_study(drawn: Project) -> None:
    """Two looks are too few; `--more` asks ten further pairs at a time on both sides until it is accepted."""
    spec = ("--set", "sequential={rule: anytime, looks: 2, first: 10, n_max: 20, futile_below: 0}")
    one = ("--set", "recipes=[{name: q8_0, build: {kind: gguf, type: Q8_0}}]")
    assert drawn.run(*RUN, "--anyway", *spec, *one).returncode == 4
    said = drawn.run("resume", "twin-1", "--more", "30", "--no-report")
    assert said.returncode in (0, 4), said.stderr
    trial = drawn.history().trials["twin-1-1"]
    assert [d.outcome.value for d in trial.superseded] == ["INCONCLUSIVE"]
    assert pairs_asked(drawn, 1) == [10, 10, 30]
    assert "50 pairs" in trial.gates["compare"].detail
    assert drawn.run("verify", "twin-1").returncode == 0
    refused = drawn.run("resume", "twin-1", "--more", "10", "--no-report")
    assert refused.returncode == 2


def test_calibrate_then_plan(drawn: Project) -> None:
    """A/A on the real server: none of its answers differ; a noisy harness is measured, and plans take twice its rate."""
    still = drawn.run("calibrate", "release.yaml", "--json")
    assert still.returncode == 0, still.stderr
    assert json.loads(still.stdout)["flip_rate"] == 0.0
    assert "flip rate" not in drawn.run("plan", "release.yaml").stderr
    noisy = ("--set", 'evaluate.env={TWIN_NOISE: "20"}')
    measured = drawn.run("calibrate", "release.yaml", "--json", *noisy)
    assert measured.returncode == 0, measured.stderr
    rate = json.loads(measured.stdout)["flip_rate"]
    assert 0.05 < rate < 0.6
    planned = drawn.run("plan", "release.yaml", "--json", *noisy)
    assert json.loads(planned.stdout)["deciding"]["planning_flip_rate"] == pytest.approx(2 * rate)
    assert "twice the noise that was measured" in planned.stderr
    assert planned.returncode == 3
    assert drawn.run("verify", "twin-noise-1").returncode == 0
