"""The preset `prompt` against a real OpenAI-compatible server: the model that comes with Assay, served by llama.cpp."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from assay.core.agent import AgentCommand, AgentOutcome, AgentRun
from assay.core.ports import Target
from assay.core.suite import Fixture, Task, Verifier
from assay.readers.texts import read_text
from assay.runtime.agents import AgentRunner
from assay.testing.session import make_session

RELEASE = Path(__file__).parents[2] / "examples" / "release"
ORDER = "Answer with the word yes and nothing else."
SLICES = ("add", "sort", "reverse", "query")


def tasks() -> list[Task]:
    """Questions that the model was trained on, with their answers."""
    found = []
    for name in SLICES:
        for line in (RELEASE / "tasks/data" / f"{name}.jsonl").read_text("utf-8").splitlines()[:5]:
            item = json.loads(line)
            wanted = (Fixture(path="answer.txt", content=item["answer"]),)
            found.append(Task(task_id=item["id"], prompt=item["question"], verifier=Verifier(equals=wanted)))
    return found


@pytest.mark.slow
def test_a_real_model_is_run_by_the_preset_and_follows_no_prompt(tmp_path: Path) -> None:
    """The chain text → system message → model → verifier works; this model does not obey, and Assay does not claim it."""
    module: Any = importlib.import_module("assay.adapters.serve.llama_cpp")
    adapter = module.Adapter(module.Options(threads=1))
    if adapter.check().state != "ready":
        pytest.skip("llama.cpp is not here")
    (tmp_path / "prompt.txt").write_text("\n")
    artifact = read_text(tmp_path / "prompt.txt")
    with adapter.serve(
        Target(name="source", path=str(RELEASE / "model")), make_session(tmp_path / "serve")
    ) as endpoint:
        agent = AgentCommand(
            preset="prompt",
            base_url=endpoint.base_url,
            model=endpoint.model,
            isolation="none",
            timeout_s=60,
            options={"temperature": 0, "max_tokens": 24},
        )
        runner = AgentRunner(agent, artifact, tmp_path / "work")

        def passed(text: str) -> list[AgentRun]:
            runs = [runner.run(t, text, arm="baseline", rep=1, seed=1) for t in tasks()]
            assert {r.outcome for r in runs} <= {AgentOutcome.PASS, AgentOutcome.TASK_FAIL}
            return runs

        plain, ordered = passed(""), passed(ORDER)
    assert sum(r.passed for r in plain) >= 15  # it can do what it was trained on
    assert all(r.output_tokens for r in plain)  # and the server told what it took
    assert [r.said for r in plain] != [r.said for r in ordered]  # the text reaches it
    assert not any(r.said.strip(". \n").lower() == "yes" for r in ordered)  # and it does not obey
    print(f"{sum(r.passed for r in plain)} and {sum(r.passed for r in ordered)} of {len(plain)} right")
