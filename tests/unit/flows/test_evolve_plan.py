"""The study that an evolve spec describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay import registry
from assay.cli.load import load_any
from assay.core.candidate import Candidate
from assay.core.errors import SpecError
from assay.core.evidence import Artifact
from assay.core.study import Study
from assay.core.vocabulary import Verb
from assay.flows import evolve
from assay.flows.evolve import EvolveSpec
from assay.gates.deploy import DeployPolicy

EXAMPLES = Path(__file__).parents[3] / "examples"


def spec(name: str = "evolve-skill.yaml", *overrides: str) -> EvolveSpec:
    """An example's spec, resolved."""
    found = load_any(EXAMPLES / name, overrides)
    assert isinstance(found, EvolveSpec)
    return found


def planned(found: EvolveSpec) -> Study:
    """Its study."""
    return evolve.plan(found, Artifact(path=found.source, digest="sha256:s", size_bytes=1), "x-1")


@pytest.mark.parametrize("name", ["evolve-skill.yaml", "evolve-rules.yaml"])
def test_every_adapter_and_gate_of_an_example_is_there(name: str) -> None:
    """The plan of a shipped example can be carried out: each option and policy is valid."""
    study = planned(spec(name))
    for step in study.steps:
        if step.adapter is not None:
            registry.adapter(Verb.EVALUATE, step.adapter)
        for gate in step.gates:
            registry.gate(gate)
    for candidate in study.proposer.options["candidates"]:
        registry.options(Verb.BUILD, Candidate.from_json(candidate).build)


def test_looks_extend_each_other() -> None:
    """The repeats of all looks are drawn once each, in order, up to the last look."""
    study = planned(spec("evolve-skill.yaml", "deploy.looks=[2,5,6]"))
    steps = [s for s in study.steps if s.name.startswith("confirm-")]
    drawn = [(s.adapter.options["first"], s.adapter.options["last"]) for s in steps if s.adapter]
    assert drawn == [(1, 2), (3, 5), (6, 6)]
    assert [s.extends for s in steps] == ["", "confirm-1", "confirm-2"]
    assert all(s.resumes for s in steps)


def test_confirmation_sees_no_task_of_the_search() -> None:
    """The search is told of train and select tasks only, and what decides is none of them."""
    found = spec()
    search = evolve.candidates(found, Artifact(path="x", digest="sha256:s", size_bytes=1))[-1].build.options
    deciding = {*found.suite.confirm}
    assert deciding
    assert not deciding & {*search["tasks_train"], *search["tasks_select"]}
    assert not any(t in str(search) for t in deciding)


def test_candidates_share_the_level() -> None:
    """Each further text that is judged divides the chance of a false deployment."""
    skill = str(EXAMPLES / "evolve-skill/skill/repair-small-programs")
    study = planned(spec("evolve-skill.yaml", f"candidates=[{skill}]"))
    policy = next(g.policy for g in study.gates if g.gate == "deploy")
    assert DeployPolicy.model_validate(dict(policy)).candidates == 2


def test_confirmation_is_paid_before_the_search() -> None:
    """Of a capped cost the search gets what preflight and confirmation cannot need."""
    found = spec("evolve-skill.yaml", "budget.cost=100", "agent.price_per_run=0.1")
    runs = evolve.runs_at_most(found)
    left = 100 - 0.1 * (runs["preflight"] + runs["confirm"])
    assert evolve.search_cost(found) == pytest.approx(left)
    options = evolve.candidates(found, Artifact(path="x", digest="sha256:s", size_bytes=1))[-1].build.options
    assert options["study_cost"] == 100.0
    assert options["confirming_runs"] == runs["confirm"]
    own = spec("evolve-skill.yaml", "budget.cost=100", "agent.price_per_run=0.1", "search.max_cost=2")
    options = evolve.candidates(own, Artifact(path="x", digest="sha256:s", size_bytes=1))[-1].build.options
    assert options["max_cost"] == 2.0, "a cap of the search's own stands beside that of the study"


def test_a_spec_without_a_candidate_is_refused() -> None:
    """There must be a text to judge, or a way to find one."""
    with pytest.raises(SpecError, match="candidates"):
        spec("evolve-skill.yaml", "search=null")


def test_the_agent_sees_the_folder_of_the_spec() -> None:
    """`{spec_dir}` is put in when the spec is read, so that a study stands alone."""
    assert any(part.startswith(str(EXAMPLES)) for part in spec().agent.command)


def test_what_is_planned_is_what_the_steps_draw() -> None:
    """The runs that a plan names are those that its steps would do; a known-good text is run on the tasks too."""
    from assay.adapters.evaluate import agent as adapter  # noqa: PLC0415
    from assay.readers.suites import read_suite  # noqa: PLC0415

    for found in (spec(), spec("evolve-rules.yaml")):
        suite = read_suite(Path(found.suite.path))
        drawn = {"preflight": 0, "confirm": 0}
        for step in planned(found).steps:
            if step.adapter is not None and step.adapter.kind == "agent":
                options = adapter.Options.model_validate(dict(step.adapter.options))
                made = adapter.plan(options, suite, found.seed)
                drawn[step.name.partition("-")[0]] += len(made.draws)
                if step.name == "preflight" and found.known_good:
                    assert made.repeats["known_good"] == found.preflight_repeats
        assert drawn == {k: evolve.runs_at_most(found)[k] for k in drawn}


def test_preflight_and_confirmation_draw_apart() -> None:
    """A seeded agent must not repeat, as confirmation, the runs that let the study begin."""
    steps = {s.name: s for s in planned(spec()).steps}
    assert steps["preflight"].seed not in (None, spec().seed)
    assert all(s.seed is None for name, s in steps.items() if name.startswith("confirm"))


def test_no_step_may_cost_more_than_the_study() -> None:
    """Where the budget caps the cost, each step that runs agents knows it."""
    found = spec("evolve-skill.yaml", "budget.cost=100", "agent.price_per_run=0.1")
    agents = [
        s.adapter.options for s in planned(found).steps if s.adapter is not None and s.adapter.kind == "agent"
    ]
    assert [o["max_cost"] for o in agents] == [100.0] * len(agents)
    assert len(agents) == 4
