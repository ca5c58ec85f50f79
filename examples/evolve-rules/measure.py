"""Which tasks a rule file passes, and what a climb over the pool and the failures of the training tasks makes of it.

    python measure.py                                # the start rules and the known good ones
    python measure.py --climb 400                    # also: change a rule at a time, keep what is better on train

The climb sees the training tasks alone; it is then measured on the tasks for selection and confirmation.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "agent"))
import apply_rules  # noqa: E402

TASKS = {p.name: p for p in sorted((HERE / "suite" / "tasks").iterdir()) if p.name != "canary"}
SPLITS = ("train", "select", "confirm")
SPLIT = {
    n: (p / "task.yaml").read_text(encoding="utf-8").split("split: ")[1].split()[0] for n, p in TASKS.items()
}
LOGS = {n: (p / "workspace" / "log.txt").read_text(encoding="utf-8") for n, p in TASKS.items()}
EXPECTED = {n: (p / "reference" / "masked.txt").read_text(encoding="utf-8") for n, p in TASKS.items()}


def of(split: str) -> list[str]:
    """The tasks of a split."""
    return [n for n in TASKS if SPLIT[n] == split]


def rate(lines: Sequence[str], names: Sequence[str]) -> tuple[float, float]:
    """(share of tasks, share of lines) that are masked rightly; the rules are run in this process."""
    rules, _ = apply_rules.read_rules("\n".join(lines))
    whole, right, count = 0, 0, 0
    for name in names:
        got = apply_rules.mask(LOGS[name], rules)[0]
        whole += got == EXPECTED[name]
        pairs = list(zip(got.split("\n"), EXPECTED[name].split("\n"), strict=True))
        right += sum(a == b for a, b in pairs)
        count += len(pairs)
    return whole / len(names), right / count


def climb(lines: Sequence[str], pool: Sequence[str], steps: int, seed: int) -> list[str]:
    """Change a line at a time; better is more tasks, then more lines, then fewer rules."""
    rng, train = random.Random(seed), of("train")
    best, value = list(lines), (*rate(lines, train), -len(lines))
    for _ in range(steps):
        new, what = list(best), rng.random()
        rules = [i for i, line in enumerate(new) if not line.startswith(("#", "MARK"))]
        if what < 0.5 or not rules:
            new.insert(rng.randint(2, len(new)), rng.choice(pool))
        elif what < 0.7:
            new[rng.choice(rules)] = rng.choice(pool)
        elif what < 0.85:
            new.pop(rng.choice(rules))
        else:
            new.insert(rng.choice(rules), new.pop(rng.choice(rules)))
        ahead = (*rate(new, train), -len(new))
        if ahead >= value:
            best, value = new, ahead
    return best


def started(rules: Path, name: str) -> bool:
    """Whether the agent passes a task as a process of its own, as a study runs it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "masked.txt")
        agent = (sys.executable, "-I", "-S", "-B", HERE / "agent" / "apply_rules.py")
        files = ("--rules", rules, "--log", TASKS[name] / "workspace" / "log.txt", "--out", out)
        subprocess.run((*agent, *files), check=True, capture_output=True, timeout=30)
        return out.read_text(encoding="utf-8") == EXPECTED[name]


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--climb", type=int, default=0, metavar="STEPS")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    apply_rules.signal.signal(apply_rules.signal.SIGPROF, apply_rules.too_slow)
    files = {n: HERE / "rules" / f"{n}.txt" for n in ("masks", "known-good")}
    texts = {n: path.read_text(encoding="utf-8").splitlines() for n, path in files.items()}
    pool = (HERE / "pool.txt").read_text(encoding="utf-8").splitlines()
    for seed in range(1, chosen.seeds + 1) if chosen.climb else ():
        texts[f"climbed, seed {seed}"] = climb(texts["masks"], pool, chosen.climb, seed)
    for name, lines in texts.items():
        two = [rate(lines, of(split)) for split in SPLITS]
        print(
            f"{name:16}",
            *(f"{s} {t:.2f} ({ln:.2f} of lines)" for s, (t, ln) in zip(SPLITS, two, strict=True)),
            sep="  ",
        )
    if chosen.climb:
        print(*lines, sep="\n")
    passed = sum(started(HERE / "rules" / "masks.txt", n) for n in TASKS)
    print(f"the start rules, each task a process of its own: {passed} of {len(TASKS)} pass")


if __name__ == "__main__":
    main()
