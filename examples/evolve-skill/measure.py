"""How often programs are repaired with a skill: by the visible tests, and by the hidden ones that decide.

    python measure.py                             # the start skill, and orders of the whole pool that are drawn
    python measure.py --lines                     # also: what each line of the pool repairs alone
    python measure.py --search 150                # also: change a line of the skill at a time, keep what is no worse

Each run is a run of the agent in a fresh folder, and of the suite's own judge. The search changes the skill by the
hidden tests of one half of the tasks and is then measured on the other half, which it never saw.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from statistics import mean, pstdev

HERE = Path(__file__).resolve().parent
SUITE = HERE / "suite"
TASKS = tuple(sorted(p.name for p in (SUITE / "tasks").iterdir() if p.name != "canary"))
POOL = (HERE / "pool.txt").read_text(encoding="utf-8").splitlines()
START = tuple(
    line
    for line in (HERE / "skill/repair-small-programs/SKILL.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("- ") and "MARK" not in line
)
COMMAND = (sys.executable, "-I", "-S", "-B")


@cache
def run(skill: Sequence[str], task: str, attempts: int, seed: int) -> tuple[int, int]:
    """(visible tests pass, hidden tests pass) after one run."""
    with tempfile.TemporaryDirectory() as folder:
        work, judged = Path(folder, "work"), Path(folder, "judged")
        for part, target in (("workspace", work), ("verifier", judged)):
            target.mkdir()
            for source in (SUITE / "shared" / part, SUITE / "tasks" / task / part):
                for file in source.iterdir():
                    if file.is_file():
                        shutil.copy(file, target)
        text, result = Path(folder, "skill.md"), Path(folder, "result.json")
        text.write_text("\n".join(skill), encoding="utf-8")
        options = ("--skill", text, "--workdir", work, "--result", result)
        limits = ("--attempts", str(attempts), "--seed", str(seed))
        command = (*COMMAND, HERE / "agent" / "repair.py", *options, *limits)
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        said = json.loads(result.read_text(encoding="utf-8"))["final_text"]
        if not said.startswith("kept"):
            return 0, 0  # the programs are as they were, and each is broken
        shutil.copy(work / "program.py", judged)
        done = subprocess.run(
            (*COMMAND, "judge.py"), cwd=judged, capture_output=True, timeout=60, check=False
        )
        return 1, int(done.returncode == 0)


def rates(
    skill: Sequence[str], tasks: Sequence[str], attempts: int, seeds: Iterable[int]
) -> tuple[float, float]:
    """Share of runs that pass the visible tests, and the hidden ones."""
    jobs = [(tuple(skill), task, attempts, seed) for task in tasks for seed in seeds]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda job: run(*job), jobs))
    return mean(v for v, _ in found), mean(h for _, h in found)


def changed(skill: Sequence[str], rng: random.Random) -> list[str]:
    """The skill with a line more, a line less, or a line elsewhere."""
    lines = list(skill)
    what = rng.random()
    if what < 0.5 or len(lines) < 2:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice([p for p in POOL if p not in lines]))
    elif what < 0.7:
        lines.pop(rng.randrange(len(lines)))
    else:
        lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
    return lines


def search(steps: int, attempts: int, seed: int, sample: int = 6) -> tuple[list[str], list[str], list[str]]:
    """The skill after that many changes: tried on a few tasks of one half first, as runs are dear."""
    rng = random.Random(seed)
    tasks = list(TASKS)
    rng.shuffle(tasks)
    train, rest = tasks[: len(tasks) // 2], tasks[len(tasks) // 2 :]
    best = list(START)
    for _ in range(steps):
        new, few = changed(best, rng), rng.sample(train, sample)
        # ties are kept, so that the order can drift
        if rates(new, few, attempts, [0])[1] >= rates(best, few, attempts, [0])[1]:
            ahead = [rates(s, train, attempts, [0])[1] for s in (new, best)]
            best = new if ahead[0] >= ahead[1] else best
    return best, train, rest


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument(
        "--lines", action="store_true", help="also: how many programs each line repairs alone"
    )
    parser.add_argument("--search", type=int, default=0, metavar="STEPS")
    chosen = parser.parse_args()
    seeds = range(1, chosen.seeds + 1)
    print("start skill: visible {:.2f}, hidden {:.2f}".format(*rates(START, TASKS, chosen.attempts, seeds)))
    varied = sum(len({run(START, t, chosen.attempts, s) for s in seeds}) > 1 for t in TASKS)
    print(f"tasks that end differently with another seed: {varied} of {len(TASKS)}")
    found = []
    for order in range(chosen.orders):
        lines = POOL[:]
        random.Random(order).shuffle(lines)
        found.append(rates(lines, TASKS, chosen.attempts, [1]))
    if found:
        visible, hidden = zip(*found, strict=True)
        print(
            f"{chosen.orders} drawn orders of the pool: visible {mean(visible):.2f}, hidden {mean(hidden):.2f}"
            f" ({min(hidden):.2f} to {max(hidden):.2f}, sd {pstdev(hidden):.2f})"
        )
    if chosen.lines:
        repaired = {p: {t for t in TASKS if rates([p], [t], 200, [1])[1]} for p in POOL}
        for line, names in sorted(repaired.items(), key=lambda item: -len(item[1])):
            print(f"{len(names):3} {line}")
        print(f"some line alone repairs {len(set().union(*repaired.values()))} of {len(TASKS)} programs")
    if chosen.search:
        best, train, rest = search(chosen.search, chosen.attempts, 1)
        for what, tasks in (("the half that it saw", train), ("the other half", rest)):
            for name, skill in (("start", START), ("found", best)):
                two = rates(skill, tasks, chosen.attempts, seeds)
                print("{}, {}: visible {:.2f}, hidden {:.2f}".format(what, name, *two))
        print(*best, sep="\n")


if __name__ == "__main__":
    main()
