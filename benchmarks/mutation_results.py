"""Seeded corruptions of good result folders: how many are found, and that none changes a promised fact unseen.

A corrupted folder goes the way of `assay gate compare`: it is read, the results gate judges it, and the
comparability gate holds it against the folder as it was. It is *found* if it cannot be read or one of them refuses.
It is *missed* if both pass although a promised fact changed: the tasks, metrics, ranges, counts, rows, scores,
states, prompts, and every protocol key that is not harmless. What the model said, how long it took and when it ran
is no such fact.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from _figures import Row, main

from assay.core.errors import UnreadableInput
from assay.core.results import Results
from assay.gates.comparability import HARMLESS, ComparabilityGate, ComparabilityPolicy
from assay.gates.results import ResultsGate, ResultsPolicy
from assay.readers.results import read_results

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "known_good" / "results"
COUNT, QUICK_COUNT, SEED = 1000, 300, 20261120
UNCHECKED = {"rows_jsonl": "score", "rows_csv": "score", "nemo_launcher_without_rows": "reported"}
"""Folders that hold a number once only: a changed one cannot be told from a true one, and nobody promises it."""

EXPECTED: Mapping[str, Mapping[str, int]] = {"rows_jsonl": {"adding": 24}, "rows_csv": {"adding": 24}}


class Case(NamedTuple):
    """A good folder, read once."""

    path: Path
    results: Results
    policy: ResultsPolicy


class Tally(NamedTuple):
    """What became of the corruptions."""

    found: Counter[str]
    harmless: Counter[str]
    missed: list[str]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.found.values()) + sum(self.harmless.values()) + len(self.missed)


def good_cases(root: Path = CORPUS) -> Iterator[Case]:
    """The good folders that can be read on this machine."""
    for path in sorted(p for p in root.iterdir() if p.is_dir() and p.name != "__pycache__"):
        try:
            results = read_results(path, subject="x")
        except UnreadableInput as error:
            if "Zstandard" not in str(error):
                raise
            print(f"{path.name}: left out, {error}", file=sys.stderr)
            continue
        yield Case(path, results, ResultsPolicy(expected=EXPECTED.get(path.name, {})))


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def digit(data: bytes, rng: random.Random) -> bytes:
    """One decimal digit becomes another: the corruption that parsers cannot see."""
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57] if len(data) < 1 << 20 else []
    if not places:
        return flip(data, rng)
    place = rng.choice(places)
    return data[:place] + bytes([48 + (data[place] - 48 + rng.randrange(1, 10)) % 10]) + data[place + 1 :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """The end is lost."""
    return data[: rng.randrange(len(data))]


def drop(data: bytes, rng: random.Random) -> bytes:
    """One line is lost."""
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def duplicate(data: bytes, rng: random.Random) -> bytes:
    """One line is there twice."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    return b"".join([*lines[: place + 1], lines[place], *lines[place + 1 :]])


def rename(data: bytes, rng: random.Random) -> bytes:
    """One quoted name becomes another, everywhere on its line."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    names = sorted({part for part in lines[place].split(b'"')[1::2] if 1 < len(part) < 40})
    if not names:
        return flip(data, rng)
    name = rng.choice(names)
    lines[place] = lines[place].replace(b'"' + name + b'"', b'"' + name + b'_x"')
    return b"".join(lines)


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    digit,
    truncate,
    drop,
    duplicate,
    rename,
)


def corrupt(folder: Path, rng: random.Random) -> str:
    """Do one thing to one file of a folder; says what."""
    file = rng.choice(sorted(f for f in folder.rglob("*") if f.is_file()))
    kind = rng.randrange(len(CHANGES) + 3)
    if kind == len(CHANGES):
        file.unlink()
        return "drop a file"
    if kind == len(CHANGES) + 1:
        file.rename(file.with_name(f"{file.stem}_x{file.suffix}"))
        return "rename a file"
    if kind == len(CHANGES) + 2:
        shutil.copy(file, file.with_name(f"{file.stem}_copy{file.suffix}"))
        return "duplicate a file"
    data = file.read_bytes()
    file.write_bytes(CHANGES[kind](data, rng) if data else b"x")
    return CHANGES[kind].__name__


def promised(results: Results, unchecked: str = "") -> Any:
    """The facts that a pass of the gates vouches for."""
    protocol = {
        k: v for k, v in results.protocol.items() if not any(fnmatchcase(k, pattern) for pattern in HARMLESS)
    }
    tasks = {}
    for task in results.tasks:
        samples = task.samples
        scores = [None] * len(samples) if unchecked == "score" else list(samples.score)
        rows = sorted(
            zip(samples.id, samples.repeat, samples.prompt, map(repr, scores), samples.state, strict=True)
        )
        # what follows from the rows is checked to the rounding that the gate allows
        score = None if unchecked or task.score is None else round(task.score, 3)
        tasks[task.task] = (task.metric, task.status, task.low, task.high, task.direction, score, rows)
    return tasks, protocol, results.harness


def passes(case: Case, found: Results) -> bool:
    """Whether both gates let it through beside the folder as it was."""
    if not ResultsGate(case.policy).judge({"results": found}).passed:
        return False
    policy = ComparabilityPolicy(require_samples=bool(len(case.results.tasks[0].samples)))
    evidence = {"baseline.results": case.results, "candidate.results": found}
    return ComparabilityGate(policy).judge(evidence).passed


def mutate(count: int, seed: int = SEED, root: Path = CORPUS) -> Tally:
    """Corrupt good folders so many times, spread evenly over them."""
    cases = list(good_cases(root))
    tally = Tally(Counter(), Counter(), [])
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            case = cases[number % len(cases)]
            rng = random.Random(f"{seed}/{case.path.name}/{number}")  # noqa: S311 - a seed, no secret
            place = Path(scratch) / case.path.name
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(case.path, place)
            what = corrupt(place, rng)
            try:
                found = read_results(place, subject="x")
            except UnreadableInput:
                tally.found[what] += 1
                continue
            if not passes(case, found):
                tally.found[what] += 1
            elif promised(found, unchecked := UNCHECKED.get(case.path.name, "")) == promised(
                case.results, unchecked
            ):
                tally.harmless[what] += 1
            else:
                tally.missed.append(f"{case.path.name}, corruption {number}: {what}")
    return tally


def measure(quick: bool) -> list[Row]:
    """The figures for the table."""
    tally = mutate(QUICK_COUNT if quick else COUNT)
    for line in tally.missed[:10]:
        print(f"missed: {line}", file=sys.stderr)
    found = sum(tally.found.values())
    harmful = found + len(tally.missed)
    rows = [
        Row("result folders: corruptions", tally.total, "", peer="flip, digit, truncate, drop, rename, duplicate"),
        Row("result folders: found", 100.0 * found / tally.total, "%"),
        Row("result folders: no promised fact changed", 100.0 * sum(tally.harmless.values()) / tally.total, "%"),
        Row("result folders: of those that change a promised fact, found", 100.0 * found / max(1, harmful), "%",
            "100", not tally.missed),
        Row("result folders: missed", len(tally.missed), "", "0", not tally.missed),
    ]  # fmt: skip
    for what in sorted({*tally.found, *tally.harmless}):
        n = tally.found[what] + tally.harmless[what]
        rows.append(
            Row(f"  {what}", 100.0 * tally.found[what] / n, "%", peer=f"{tally.found[what]} of {n} refused")
        )
    return rows


if __name__ == "__main__":
    main(__doc__ or "", measure)
