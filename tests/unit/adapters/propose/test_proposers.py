"""The proposers of changes: a list, Optuna, and any program."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.adapters.propose import command, optuna, patches
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import ComponentFailed, ComponentMissing, SpecError
from assay.core.evidence import Measurement
from assay.core.experiment import PrimaryMetric
from assay.core.proposal import Idea, Template, told
from assay.core.study import AdapterRef
from assay.core.vocabulary import Direction, FailureClass, Outcome, Verb

TEMPLATE = Template(
    source="sha256:source",
    build=AdapterRef(kind="train", options={"command": ["x"], "config": {"lr": 0.1, "net": {"width": 8}}}),
    baseline=Idea(name="baseline", hypothesis="as it stands"),
    metric=PrimaryMetric(name="loss", direction=Direction.LOWER),
)


def decided(made: Candidate | None, value: float | None, outcome: Outcome = Outcome.ACCEPT) -> Decision:
    """A Decision on a candidate, as the engine tells of it."""
    assert made is not None
    decision = Decision(
        study="s", trial=f"s-{made.name}", candidate=made.name, candidate_key=made.key, outcome=outcome,
        sentence="so it is",
    )  # fmt: skip
    return told(decision, made, [Measurement.of("loss", value, n=5)], [])


def test_a_list_is_tried_in_order_each_on_top_of_the_best() -> None:
    """First the configuration as it stands, then each idea once, then nothing."""
    ideas = (Idea(name="a", patch={"lr": 0.2}, hypothesis="a"), Idea(patch={"net.width": 16}, hypothesis="b"))
    adapter = patches.Adapter(patches.Options(patches=ideas, template=TEMPLATE))
    history: list[Decision] = []
    for outcome in (Outcome.ACCEPT, Outcome.ACCEPT, Outcome.NO_GAIN):
        history.append(decided(adapter.propose(history), 0.5, outcome))
    assert [d.candidate for d in history] == ["baseline", "a", "try-3"]
    last = Candidate.from_json(history[-1].facts["candidate"])
    assert last.build.options["config"] == {"lr": 0.2, "net": {"width": 16}}
    assert adapter.propose(history) is None


SPACE = {
    "lr": optuna.Range(low=0.001, high=1.0, log=True),
    "net.width": optuna.Range(low=4, high=64, integer=True),
    "act": optuna.Range(choices=("tanh", "relu")),
}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_optuna_asks_within_its_space_and_the_same_again(sampler: Any) -> None:
    """A study made again from the same history gives the same settings; all lie in the space and none comes twice."""
    pytest.importorskip("optuna")
    adapter = optuna.Adapter(optuna.Options(space=SPACE, sampler=sampler, startup=2, template=TEMPLATE))
    history = [decided(adapter.propose([]), 0.9)]
    for number in range(5):
        made, again = adapter.propose(history), adapter.propose(history)
        assert made == again
        assert made is not None
        config = made.build.options["config"]
        assert 0.001 <= config["lr"] <= 1.0
        assert config["net"]["width"] in range(4, 65)
        assert config["act"] in {"tanh", "relu"}
        assert made.intent["hypothesis"]
        outcome = Outcome.INFEASIBLE if number == 1 else Outcome.ACCEPT
        history.append(decided(made, None if number == 1 else 1.0 - number / 10, outcome))
    configs = [json.dumps(Candidate.from_json(d.facts["candidate"]).build.options["config"]) for d in history]
    assert len(set(configs)) == len(configs)


def test_optuna_learns_which_way_is_better() -> None:
    """After trials whose loss grows with the rate, it asks for small rates."""
    pytest.importorskip("optuna")
    space = {"lr": optuna.Range(low=0.0, high=1.0)}
    adapter = optuna.Adapter(optuna.Options(space=space, startup=8, template=TEMPLATE))
    history = [decided(adapter.propose([]), 0.1)]
    for _ in range(20):
        made = adapter.propose(history)
        assert made is not None
        history.append(decided(made, made.build.options["config"]["lr"], Outcome.NO_GAIN))
    asked = [Candidate.from_json(d.facts["candidate"]).build.options["config"]["lr"] for d in history[-8:]]
    assert sorted(asked)[4] < 0.3


def test_an_exhausted_space_ends_it() -> None:
    """When every choice was tried there is no further candidate."""
    pytest.importorskip("optuna")
    space = {"act": optuna.Range(choices=("tanh", "relu"))}
    adapter = optuna.Adapter(optuna.Options(space=space, template=TEMPLATE))
    history = [decided(adapter.propose([]), 0.9)]
    for _ in range(2):
        history.append(decided(adapter.propose(history), 0.5))
    assert adapter.propose(history) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 1.0},
        {"low": 2.0, "high": 1.0},
        {"low": 0.0, "high": 1.0, "log": True},
        {"choices": [1], "low": 0.0, "high": 1.0},
        {},
    ],
)
def test_a_space_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """The spec says what a setting may be; what contradicts itself is found before anything runs."""
    with pytest.raises(SpecError):
        registry.options(Verb.PROPOSE, AdapterRef(kind="optuna", options={"space": {"lr": wrong}}), "propose")


def agent(folder: Path, body: str, **more: Any) -> command.Adapter:
    """A program that answers."""
    script = folder / "agent.py"
    script.write_text(f"import json, os, sys, time\nrequest = json.load(open(sys.argv[1]))\n{body}\n")
    options = {"cwd": str(folder), "template": TEMPLATE, **more}
    line = ("{python}", str(script), "{request}", "{reply}")
    return command.Adapter(command.Options(command=line, **options))


REPLY = (
    'json.dump({"patch": {"lr": 0.5}, "hypothesis": "faster", "rationale": "r", "name": "fast"}, '
    'open(sys.argv[2], "w"))'
)


def begun(adapter: command.Adapter) -> list[Decision]:
    """The history after the baseline."""
    return [decided(adapter.propose([]), 0.9)]


def test_a_program_proposes(tmp_path: Path) -> None:
    """Its reply becomes a candidate with hypothesis, rationale and the whole configuration."""
    adapter = agent(
        tmp_path, f"assert request['context'] == {{'lr': [0, 1]}}\n{REPLY}", context={"lr": [0, 1]}
    )
    made = adapter.propose(begun(adapter))
    assert made is not None
    assert (made.name, made.intent["hypothesis"], made.intent["rationale"]) == ("fast", "faster", "r")
    assert made.build.options["config"] == {"lr": 0.5, "net": {"width": 8}}


def test_a_program_may_print_its_reply(tmp_path: Path) -> None:
    """The last JSON object that it prints counts where it writes no file, whatever stands around it."""
    reply = """print(json.dumps({"patch": {"lr": 1}, "hypothesis": "x"}, indent=1))"""
    body = f"print('I think {{ hm }}'); {reply}; print('done')"
    adapter = agent(tmp_path, body)
    made = adapter.propose(begun(adapter))
    assert made is not None
    assert made.build.options["config"]["lr"] == 1


def test_a_program_may_stop(tmp_path: Path) -> None:
    """`stop` means that nothing is left to try; the same settings again mean it too."""
    adapter = agent(tmp_path, """print(json.dumps({"stop": "all tried"}))""")
    assert adapter.propose(begun(adapter)) is None
    again = agent(tmp_path, """print(json.dumps({"patch": {"lr": 0.1}, "hypothesis": "again"}))""")
    assert again.propose(begun(again)) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no idea')", "no JSON object"),
        ('print(\'{"patch": {"lr": 1}}\')', "hypothesis"),
        ('print(\'{"hypothesis": "x"}\')', "changes nothing"),
        ('print(\'{"patch": 3, "hypothesis": "x"}\')', "patch"),
        ('print(\'{"patch": {"lr": 1}, "hypothesis": "x", "name": "../x"}\')', "name"),
        ("print('{\"idea\": 1}')", "idea"),
    ],
)
def test_an_unusable_reply_is_asked_for_again_then_an_error(tmp_path: Path, body: str, said: str) -> None:
    """The next request says what was wrong; after the last one the error does."""
    log = "open('asked', 'a').write(str(request['error']) + chr(10))\n"
    adapter = agent(tmp_path, log + body)
    with pytest.raises(ComponentFailed, match=said) as caught:
        adapter.propose(begun(adapter))
    assert caught.value.failure_class is FailureClass.UNKNOWN
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first == "None"
    assert said in second


def test_a_program_that_fails_or_hangs_is_a_passing_failure(tmp_path: Path) -> None:
    """Exit code and time limit are told apart, both may be tried again; a missing program may not."""
    crashing = agent(tmp_path, "sys.exit('quota exceeded')")
    with pytest.raises(ComponentFailed, match="exit code 1") as caught:
        crashing.propose(begun(crashing))
    assert caught.value.failure_class is FailureClass.INFRA_TRANSIENT
    assert "quota exceeded" in caught.value.log_tail
    hanging = agent(tmp_path, "time.sleep(60)", timeout_s=0.5)
    with pytest.raises(ComponentFailed, match=r"longer than 0\.5 s"):
        hanging.propose(begun(hanging))
    missing = command.Adapter(
        command.Options(command=("no-such-agent",), cwd=str(tmp_path), template=TEMPLATE)
    )
    assert missing.check().state == "missing"
    with pytest.raises(ComponentMissing):
        missing.propose(begun(missing))


def test_all_of_them_are_found_by_their_kind() -> None:
    """The registry knows each kind, and each says whether it could run here."""
    for kind, options in (
        ("patches", {}),
        ("optuna", {"space": {"lr": {"low": 0.0, "high": 1.0}}}),
        ("command", {"command": [sys.executable]}),
    ):
        assert registry.adapter(Verb.PROPOSE, AdapterRef(kind=kind, options=options)).check().kind == kind
