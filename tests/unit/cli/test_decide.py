"""`assay decide`: tables and result folders in, one word with its picture out, and one line for what is wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cli_call import Call, Said

pytestmark = pytest.mark.slow

BOTH = ("--baseline", "base.csv", "--candidate", "cand.csv")


def table(path: str, scores: Iterable[Any], *, task: str = "", ids: Iterable[Any] | None = None) -> Path:
    """A CSV file of an id and a score a row."""
    values = list(scores)
    names = list(range(len(values)) if ids is None else ids)
    lines = ["id,score,task" if task else "id,score"]
    lines += [f"{i},{s},{task}" if task else f"{i},{s}" for i, s in zip(names, values, strict=True)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def sides(lost: int, won: int, n: int) -> None:
    """`base.csv` and `cand.csv`: so many pairs lost and won, the rest the same on both sides."""
    same = [int(i % 3 > 0) for i in range(n - lost - won)]
    table("base.csv", [*[1] * lost, *[0] * won, *same])
    table("cand.csv", [*[0] * lost, *[1] * won, *same])


def decided(said: Said) -> dict[str, Any]:
    """The JSON verdict of a call."""
    value: dict[str, Any] = said.json
    assert value["schema"] == "verdict/1"
    assert {"gate", "status", "decision", "detail", "estimates", "inputs", "notes"} <= value.keys()
    return value


@pytest.mark.parametrize(
    ("lost", "won", "n", "code", "word"),
    [
        (20, 22, 3000, 0, "ACCEPT"),
        (200, 20, 3000, 1, "REGRESSION"),
        (12, 10, 400, 4, "INCONCLUSIVE"),
        (3, 300, 3000, 5, "ANOMALOUS"),
    ],
)
def test_the_word_and_the_exit_code_follow_the_pairs(
    assay: Call, lost: int, won: int, n: int, code: int, word: str
) -> None:
    """Two bare tables are accepted, refused, left open or disbelieved, each with its own exit code."""
    sides(lost, won, n)
    said = assay("decide", *BOTH)
    assert said.code == code
    assert said.out.startswith(word)
    assert said.err == ""
    value = decided(assay("decide", *BOTH, "--json"))
    assert value["decision"] == word
    macro = value["estimates"][0]
    assert macro["task"] == "macro"
    assert macro["drop"] == pytest.approx((lost - won) / n)
    rows = value["estimates"][1]
    assert (rows["lost"], rows["won"], rows["n"]) == (lost, won, n)


def test_the_terminal_shows_plot_point_rule_and_what_settles_it(assay: Call) -> None:
    """An open verdict says how many pairs settle it, the smallest certified margin and the point rule's word."""
    sides(12, 10, 400)
    out = assay("decide", *BOTH).out
    needed = decided(assay("decide", *BOTH, "--json"))["needed"]
    assert f"About {needed:,} pairs in all would settle it" in out
    assert "The smallest margin that this evidence certifies is" in out
    assert "point rule  ACCEPT" in out
    mean = next(line for line in out.splitlines() if line.startswith("mean over tasks"))
    assert "◆" in mean
    assert "┤" in mean
    assert "12 / 10" in mean


def test_margin_and_alpha_are_the_users(assay: Call) -> None:
    """A wider margin accepts what a narrow one refuses, and alpha sets the level of the interval."""
    sides(70, 10, 3000)
    assert assay("decide", *BOTH).code == 1
    said = assay("decide", *BOTH, "--margin", "0.04", "--alpha", "0.01", "--json")
    assert said.code == 0
    macro = decided(said)["estimates"][0]
    assert macro["margin"] == 0.04
    assert macro["level"] == pytest.approx(0.98)


def test_a_guard_is_never_stricter_than_the_margin(assay: Call) -> None:
    """With one task the mean is that task: within the margin it may not fail a narrower guard of its own."""
    sides(80, 25, 3000)
    value = decided(assay("decide", *BOTH, "--margin", "0.03", "--json"))
    assert value["decision"] == "ACCEPT"
    assert [e["margin"] for e in value["estimates"]] == [0.03, 0.03]


def test_the_point_policy_holds_bare_numbers(assay: Call) -> None:
    """`--policy point` accepts a drop below the margin that the pairs leave open."""
    sides(6, 4, 400)
    assert assay("decide", *BOTH).code == 4
    said = assay("decide", *BOTH, "--policy", "point", "--json")
    assert said.code == 0
    assert decided(said)["policy"] == "point"


def test_score_files_need_the_point_policy(assay: Call) -> None:
    """Two `{task: score}` files hold no pairs: one line says so, and the point rule judges them."""
    for name, score in (("base.json", 0.71), ("cand.json", 0.60)):
        Path(name).write_text(json.dumps({"gsm8k": score}))
    both = ("--baseline", "base.json", "--candidate", "cand.json")
    assay("decide", *both).refused(2, "no samples to pair", "--policy point")
    assert assay("decide", *both, "--policy", "point").code == 1


@pytest.mark.parametrize("bad", ["nan", "inf", "", "good"])
def test_a_row_without_a_number_is_no_score(assay: Call, bad: str) -> None:
    """NaN, infinity, nothing and text are refused by name; none of them becomes 0.0 or a smaller n."""
    sides(20, 22, 3000)
    rows = Path("cand.csv").read_text().splitlines()
    Path("cand.csv").write_text("\n".join([*rows[:-1], f"2999,{bad}"]) + "\n")
    said = assay("decide", *BOTH)
    assert said.code == 5
    assert said.out.startswith("ANOMALOUS")
    assert "the candidate" in said.out
    assert "2999 samples are in the files, 3000 were expected" in said.out


def test_text_in_every_row_is_refused(assay: Call) -> None:
    """Tables of words have no score on any side."""
    table("base.csv", ["good"] * 30)
    table("cand.csv", ["bad"] * 30)
    assert assay("decide", *BOTH).code == 5


def test_missing_ids_are_named(assay: Call) -> None:
    """A candidate that lacks rows of the baseline is not compared on the rest."""
    sides(20, 22, 3000)
    rows = Path("cand.csv").read_text().splitlines()
    Path("cand.csv").write_text("\n".join(rows[:-5]) + "\n")
    said = assay("decide", *BOTH)
    assert said.code == 5
    assert "5 of 3000 samples are the baseline's alone" in said.out


def test_other_ids_are_not_comparable(assay: Call) -> None:
    """Two tables of the same length about other samples are refused."""
    table("base.csv", [0, 1] * 50)
    table("cand.csv", [0, 1] * 50, ids=[f"x{i}" for i in range(100)])
    value = decided(assay("decide", *BOTH, "--json"))
    assert value["gate"] == "comparability"
    assert value["failure_class"] == "NOT_COMPARABLE"
    assert value["decision"] == "ANOMALOUS"


def test_duplicate_ids_are_refused(assay: Call) -> None:
    """The same id twice without a repeat is an error of the table."""
    table("base.csv", [0, 1] * 50, ids=[*range(99), 98])
    table("cand.csv", [0, 1] * 50)
    said = assay("decide", *BOTH)
    assert said.code == 5
    assert "the baseline" in said.out


def test_one_sample_decides_nothing(assay: Call) -> None:
    """One pair is INCONCLUSIVE with an honest interval, and no crash."""
    table("base.csv", [1])
    table("cand.csv", [1])
    said = assay("decide", *BOTH, "--json")
    assert said.code == 4
    assert decided(said)["estimates"][0]["upper"] > 0.01


def test_real_valued_scores_are_compared(assay: Call) -> None:
    """Scores between 0 and 1 take the test of means."""
    table("base.csv", [0.2 + 0.6 * (i % 7) / 6 for i in range(700)])
    table("cand.csv", [0.1 + 0.6 * ((i % 7) + (i % 2) / 9) / 6.2 for i in range(700)])
    assert assay("decide", *BOTH).code == 1


def test_repeats_are_kept_apart(assay: Call) -> None:
    """JSONL rows with a repeat are no duplicates, and an item lacking one is refused."""
    for side in ("base", "cand"):
        rows = [{"id": i, "repeat": r, "score": (i + r) % 2} for i in range(40) for r in range(3)]
        Path(f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = ("--baseline", "base.jsonl", "--candidate", "cand.jsonl")
    value = decided(assay("decide", *both, "--json"))
    assert value["flips"] == {"rows": {"pairs": 120, "worse": 0, "better": 0}}
    assert value["estimates"][0]["n"] == 40, "items are independent of each other, repeats are not"
    Path("cand.jsonl").write_text("".join(Path("cand.jsonl").read_text().splitlines(keepends=True)[:-1]))
    assert assay("decide", *both).code == 5


def test_a_task_column_is_believed(assay: Call) -> None:
    """Tables that name their tasks are compared by those names, also where they happen to be the file's."""
    table("base.csv", [0, 1] * 50, task="base")
    table("cand.csv", [0, 1] * 50, task="cand")
    said = assay("decide", *BOTH)
    assert said.code == 5
    assert "only the baseline ran it" in said.out


def test_expected_counts_are_the_users(assay: Call) -> None:
    """`--expect` says how many samples there should be, for every task or for one by its name."""
    sides(20, 22, 3000)
    assert assay("decide", *BOTH, "--expect", "3000").code == 0
    assert assay("decide", *BOTH, "--expect", "rows=3500").code == 5
    assert assay("decide", *BOTH, "--expect", "lost_task=10").code == 5
    assay("decide", *BOTH, "--expect", "many").refused(2, "--expect", "TASK=N")
    assert "does not say how many samples" in assay("decide", *BOTH).out
    assert "does not say how many samples" not in assay("decide", *BOTH, "--expect", "3000").out


def test_the_metric_is_one_that_is_there(assay: Call) -> None:
    """`--metric` that the rows do not hold is refused by name."""
    sides(20, 22, 3000)
    assert assay("decide", *BOTH, "--metric", "score").code == 0
    assay("decide", *BOTH, "--metric", "f1").refused(2, "no metric 'f1'")
    assay("decide", *BOTH, "--metric", "other=score").refused(2, "'other'")


def test_a_protocol_difference_can_be_declared(assay: Call) -> None:
    """A differing metric name is refused, and the line says which flag declares a difference."""
    sides(20, 22, 3000)
    Path("cand.csv").write_text(Path("cand.csv").read_text().replace("id,score", "id,reward"))
    said = assay("decide", *BOTH)
    assert said.code == 5
    assert "--declare task.rows.metric" in said.out
    # the metric itself still differs: a declared key does not make two metrics one
    assert assay("decide", *BOTH, "--declare", "task.*").code == 5


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--baseline", "none.csv", "--candidate", "cand.csv"), ("none.csv", "no such file")),
        (("--baseline", "base.csv", "--candidate", "./base.csv"), ("one and the same path",)),
        (("--baseline", "empty.csv", "--candidate", "cand.csv"), ("empty.csv",)),
        (("--baseline", "odd.csv", "--candidate", "cand.csv"), ("odd.csv", "column of ids", "score")),
        ((*BOTH, "--margin", "0"), ("--margin",)),
        ((*BOTH, "--margin", "nan"), ("--margin",)),
        ((*BOTH, "--alpha", "1"), ("--alpha",)),
        ((*BOTH, "--harness", "nope"), ("nope", "rows")),
        ((*BOTH, "--out", "picture.png"), ("picture.png", "FILE.svg")),
    ],
)
def test_wrong_usage_is_one_line(assay: Call, arguments: tuple[str, ...], fragments: tuple[str, ...]) -> None:
    """Whatever cannot be used is told in one line on stderr, with exit code 2."""
    sides(1, 1, 40)
    Path("empty.csv").write_text("")
    Path("odd.csv").write_text("id|score\n1|1\n")
    assay("decide", *arguments).refused(2, *fragments)


@pytest.mark.parametrize("code", [0, 5])
def test_pictures_stand_alone(assay: Call, code: int) -> None:
    """HTML and SVG are written for a judged and for a refused pair; the SVG is XML; nothing is fetched."""
    sides(20, 22, 3000)
    if code:
        table("cand.csv", [0, 1] * 100)
    for name in ("out.html", "out.svg"):
        said = assay("decide", *BOTH, "--out", name)
        assert said.code == code
        assert f"picture  {name}" in said.out
        text = Path(name).read_text(encoding="utf-8")
        assert said.out.split(maxsplit=1)[0] in text
        assert "<script" not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    ET.parse("out.svg")
    value = decided(assay("decide", *BOTH, "--json", "--out", "out.svg"))
    assert value["picture"] == "out.svg"
