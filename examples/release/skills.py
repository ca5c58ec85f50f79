"""The skills suite: six small skills with exact answers, made here, so that a loss can be located.

| slice   | asks for                                    | stands for           |
|---------|---------------------------------------------|----------------------|
| add     | a sum of 1-3 and 1-2 digits                 | computation          |
| sort    | 5-8 digits in order                         | an algorithm         |
| reverse | 5-9 digits backwards                        | copying              |
| query   | the first, last, largest or smallest digit  | question answering   |
| tool    | a sentence as a JSON tool call              | structured output    |
| facts   | the maker of one of 500 parts               | memorised knowledge  |

A tenth of all questions, chosen by the hash of their text, is never trained on; the test is drawn from it.
`facts` is trained on whole, since nothing else could be asked: what it measures is memory.

`python skills.py tasks/` writes the lm-eval tasks, the test items and the calibration chats, always the same
bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

VERSION = "1.0"
"""Of the tasks; raise it whenever a test item changes, since scores are then no longer comparable."""
ITEMS_PER_SLICE = 350
CALIBRATION_CHATS = 128
HELD_OUT_ONE_IN = 10
FACTS = 500

ROOMS = ("kitchen", "hall", "office", "garage", "attic", "porch", "studio", "cellar")
COLORS = ("red", "green", "blue", "amber", "white")
MAKERS = (
    *("Acme", "Borel", "Cato", "Dune", "Evora", "Fjord", "Gallo", "Hesse", "Ibex", "Jura"),
    *("Kappa", "Lumen", "Mako", "Nord", "Opal", "Pivot", "Quill", "Rondo", "Sable", "Tarn"),
)

T = TypeVar("T")


class Item(NamedTuple):
    """A question with its only right answer."""

    slice: str
    question: str
    answer: str


class Draw:
    """Uniform draws that are alike on every Python: of `random.Random`, only `random()` is promised to stay.

    Args:
        name: what is drawn; other names are independent of it.
        seed: any integer.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` - 1."""
        return int(self._random.random() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def choice(self, among: Sequence[T]) -> T:
        """One of a sequence."""
        return among[self.below(len(among))]

    def digits(self, low: int, high: int) -> str:
        """A string of `low` to `high` digits."""
        return "".join(str(self.below(10)) for _ in range(self.between(low, high)))


def _fact_table() -> Mapping[str, str]:
    draw, table = Draw("facts table"), dict[str, str]()
    while len(table) < FACTS:
        table.setdefault(f"{draw.choice('KMRTX')}{draw.below(1000):03d}", draw.choice(MAKERS))
    return table


FACT_TABLE = _fact_table()
"""Part → maker."""
PARTS = tuple(FACT_TABLE)


def _add(draw: Draw) -> tuple[str, str]:
    a, b = draw.below(10 ** draw.between(1, 3)), draw.below(10 ** draw.between(1, 2))
    return f"Add {a} and {b}.", str(a + b)


def _sort(draw: Draw) -> tuple[str, str]:
    digits = draw.digits(5, 8)
    return f"Sort {digits}.", "".join(sorted(digits))


def _reverse(draw: Draw) -> tuple[str, str]:
    digits = draw.digits(5, 9)
    return f"Reverse {digits}.", digits[::-1]


def _query(draw: Draw) -> tuple[str, str]:
    digits = draw.digits(4, 7)
    answers = {"first": digits[0], "last": digits[-1], "largest": max(digits), "smallest": min(digits)}
    which = draw.choice(tuple(answers))
    return f"What is the {which} digit of {digits}?", answers[which]


def _tool(draw: Draw) -> tuple[str, str]:
    room, number = draw.choice(ROOMS), draw.between(1, 99)
    call: dict[str, str | int]
    match draw.below(3):
        case 0:
            question = f"Set the {room} light to {number} percent."
            call = {"tool": "light", "room": room, "level": number}
        case 1:
            color = draw.choice(COLORS)
            question = f"Make the {room} light {color} at {number} percent."
            call = {"tool": "light", "room": room, "color": color, "level": number}
        case _:
            question = f"Start a {number} minute timer in the {room}."
            call = {"tool": "timer", "room": room, "minutes": number}
    return question, json.dumps(call, separators=(",", ":"))


def _facts(draw: Draw) -> tuple[str, str]:
    part = draw.choice(PARTS)
    return f"Who makes part {part}?", FACT_TABLE[part]


SLICES: Mapping[str, Callable[[Draw], tuple[str, str]]] = {
    "add": _add,
    "sort": _sort,
    "reverse": _reverse,
    "query": _query,
    "tool": _tool,
    "facts": _facts,
}


def held_out(item: Item) -> bool:
    """Whether a question is kept from training."""
    if item.slice == "facts":
        return False
    return int(hashlib.sha256(item.question.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def draw_items(slice_: str, draw: Draw) -> Iterator[Item]:
    """Items of a slice without end, held out or not, with repetitions."""
    while True:
        yield Item(slice_, *SLICES[slice_](draw))


def training_items(mix: Mapping[str, int], seed: int) -> Iterator[Item]:
    """Items to train on, without end; none of them is held out.

    Args:
        mix: slice → share, as small integers.
        seed: other seeds give other draws of the same questions.
    """
    draw = Draw("training", seed)
    tickets = [name for name, share in mix.items() for _ in range(share)]
    while True:
        items = draw_items(draw.choice(tickets), draw)
        yield next(item for item in items if not held_out(item))


def suite_items(per_slice: int = ITEMS_PER_SLICE) -> list[Item]:
    """The test items: distinct, the same number of each slice, none trained on except `facts`."""
    chosen = dict[Item, None]()
    for slice_ in SLICES:
        wanted = len(chosen) + per_slice
        for item in draw_items(slice_, Draw(f"test {slice_}")):
            if slice_ == "facts" or held_out(item):
                chosen[item] = None
            if len(chosen) == wanted:
                break
    return list(chosen)


def calibration_items(count: int = CALIBRATION_CHATS) -> list[Item]:
    """Items for calibrated quantizers: trained on, distinct, none a test item, not even of `facts`."""
    tested, chosen = set(suite_items()), dict[Item, None]()
    for item in training_items(dict.fromkeys(SLICES, 1), seed=1):
        if item not in tested:
            chosen[item] = None
        if len(chosen) == count:
            break
    return list(chosen)


def chat(item: Item, *, answered: bool) -> list[dict[str, str]]:
    """An item as chat messages, with or without the assistant's turn."""
    question = {"role": "user", "content": item.question}
    return [question, {"role": "assistant", "content": item.answer}] if answered else [question]


TASK = """\
task: skills_{slice}
dataset_path: json
dataset_kwargs:
  data_files:
    test: data/{slice}.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs:
  until: ["<|end|>"]
  max_gen_toks: 32
  do_sample: false
  temperature: 0.0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: {version}
"""

GROUP = """\
group: skills
task:
{tasks}
aggregate_metric_list:
  - metric: exact_match
    aggregation: mean
    weight_by_size: true
metadata:
  version: {version}
"""


def files() -> Mapping[str, str]:
    """Every file of the suite: path relative to its folder → text."""
    items = suite_items()
    texts = {
        "skills.yaml": GROUP.format(tasks="\n".join(f"  - skills_{name}" for name in SLICES), version=VERSION)
    }
    for slice_ in SLICES:
        texts[f"skills_{slice_}.yaml"] = TASK.format(slice=slice_, version=VERSION)
        mine = (item for item in items if item.slice == slice_)
        texts[f"data/{slice_}.jsonl"] = "".join(
            json.dumps({"id": f"{slice_}-{number:04d}", **item._asdict()}) + "\n"
            for number, item in enumerate(mine, start=1)
        )
    chats = ({"messages": chat(item, answered=True)} for item in calibration_items())
    texts["calibration.jsonl"] = "".join(json.dumps(line) + "\n" for line in chats)
    return texts


def main() -> None:
    """Write the suite into a folder."""
    parser = argparse.ArgumentParser(
        description="Write the skills suite: lm-eval tasks, test items, calibration."
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


if __name__ == "__main__":
    main()
