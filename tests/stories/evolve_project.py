"""A tiny evolve project in a folder of its own: 16 tasks and a canary, an agent with seeded chance, a short search."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_project import Project

from assay.core.agent import AgentRuns
from assay.core.events import EventType
from assay.readers.evolved import read_evolved

HERE = Path(__file__).parent / "evolving"
WORDS = {"red": "ruby", "green": "moss", "blue": "sky", "black": "coal"}
"""What the tasks ask for, and what is right."""
KNOWN = ("red", "green")
"""What the text as it stands says already."""
SPLITS = ("train", "select", "confirm", "confirm")
PARALLEL = 2

SPEC = """
schema: evolve/1
name: tiny
text: {TEXT}
suite: suite.jsonl
agent:
  command: ["{python}", -I, -S, -B, "{HERE}/agent.py", "{text_file}", "{prompt_file}", "{workdir}", "{result_file}",
            "{seed}", "{FOLDER}", "{SLEEP}"]
  version_command: [echo, tiny 1]
  timeout_s: 30
  parallel: 2
  isolation: none
search:
  proposers:
    - {kind: add-line, options: {at: end}}
  pool: ["- blue: sky", "- black: coal", "- white: snow"]
  limits: {anchors: ["- MARK: heron-4711"]}
  max_runs: 48
deploy: {looks: [1, 2]}
preflight: {force: true}
seed: {SEED}
"""


def rules(keys: Sequence[str]) -> str:
    """A text with rules for these."""
    return "\n".join(["# What to say", "- MARK: heron-4711", *(f"- {k}: {WORDS[k]}" for k in keys)])


BETTER = rules(tuple(WORDS))
GIVEN = ("--set", "search=null", "--set", "candidates=[better.md]")
"""Options of `assay run`: the better text is handed in, and nothing is searched for."""
RUN = ("run", "tiny.yaml", "--no-report", "--anyway")


def suite() -> str:
    """The tasks as JSON lines."""
    tasks = [
        {
            "task_id": f"{key}-{n}",
            "user_message": f"number {n}: do {key}",
            "expected_files": {"answer.txt": word},
            "split": split,
        }
        for n, split in enumerate(SPLITS)
        for key, word in WORDS.items()
    ]
    canary = {
        "task_id": "canary",
        "user_message": "do MARK",
        "expected_files": {"answer.txt": "heron-4711"},
        "canary": True,
    }
    return "".join(json.dumps(t) + "\n" for t in (*tasks, canary))


class Evolve(Project):
    """The project, and what its studies did."""

    @property
    def text(self) -> Path:
        """The text as it stands."""
        return self.folder / "rules.md"

    @property
    def log(self) -> Path:
        """A line for each invocation of the agent."""
        return self.folder / "invocations.log"

    @property
    def down(self) -> Path:
        """While it is there, the agent says that its service is down."""
        return self.folder / "down"

    def invoked(self) -> Counter[tuple[str, str, int]]:
        """How often the agent was invoked for each run: key of the task, text, seed."""
        if not self.log.exists():
            return Counter()
        lines = [json.loads(x) for x in self.log.read_text().splitlines()]
        return Counter((key, text, seed) for key, text, seed, _ in lines)

    def evidence(self, study: str = "tiny-1") -> list[AgentRuns]:
        """All evidence of agent runs that finished steps left."""
        found = []
        for event in self.events():
            if event.study == study and event.type is EventType.STEP_FINISHED and event.data["evidence"]:
                document = self.document(event.data["evidence"])
                if document["kind"] == "agent_runs":
                    found.append(AgentRuns.from_json(document))
        return found

    def journals(self) -> dict[str, list[Mapping[str, Any]]]:
        """Name of the step → the runs in its journal."""
        return {
            p.parent.name: [json.loads(x) for x in p.read_text().splitlines()[1:]]
            for p in sorted(self.home.glob("studies/*/trial-*/*/runs.jsonl"))
        }


def lay_out(folder: Path, *, sleep_s: float = 0.0, seed: int = 1, text: str = "rules.md") -> Evolve:
    """The project in a folder that does not exist yet."""
    folder.mkdir(parents=True)
    (folder / "rules.md").write_text(rules(KNOWN), encoding="utf-8")
    (folder / "better.md").write_text(BETTER, encoding="utf-8")
    (folder / "suite.jsonl").write_text(suite(), encoding="utf-8")
    values = {"HERE": HERE, "FOLDER": folder, "SLEEP": sleep_s, "SEED": seed, "TEXT": text}
    spec = SPEC
    for name, value in values.items():
        spec = spec.replace(f"{{{name}}}", str(value))
    (folder / "tiny.yaml").write_text(spec, encoding="utf-8")
    return Evolve(folder)


TIMES = frozenset({"started", "wall_s"})
"""What differs from one study to the next."""


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without when it was and how long it took."""
    return {k: v for k, v in record.items() if k not in TIMES}


def came_to(project: Evolve, study: str = "tiny-1") -> dict[str, Any]:
    """What a study came to, in a form in which two studies can be compared."""
    history = project.history(study)
    built = [
        read_evolved(Path(d.facts["artifact"]["path"])) for d in history.decisions if d.facts["artifact"]
    ]
    return {
        "decisions": [(d.trial, d.outcome.value, d.sentence) for d in history.decisions],
        "picked": [b.artifact.text for b in built],
        "searched": [timeless(b.evolution.to_json()) for b in built],
        "runs": [[timeless(r.to_json()) for r in e.runs] for e in project.evidence(study)],
    }


def decided(project: Evolve, *more: str) -> Evolve:
    """The project with a finished study, without a search."""
    done = project.run(*RUN, *GIVEN, *more)
    assert done.returncode == 0, done.stderr[-2000:]
    return project


if __name__ == "__main__":
    print(lay_out(Path(sys.argv[1])).folder)
