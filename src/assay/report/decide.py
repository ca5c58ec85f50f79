"""One comparison as a forest plot: on a terminal, as a page, and as an SVG picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markupsafe import Markup
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import Outcome, Status
from assay.report._view.marks import Mark, outcome_mark
from assay.report._view.release.comparison import Comparison, Row, comparison
from assay.report._view.text import one_line
from assay.report.console import result_console
from assay.report.html import environment, filled
from assay.runtime.files import write_atomic

PLOT_CELLS = (24, 60)
"""Smallest and largest width of the plot on a terminal, in cells."""
NAME_CELLS = 24
REASONS_SHOWN = 8
ROW_PX = 38
_TONE = {"good": "green", "bad": "red", "open": "yellow", "odd": "magenta", "idle": "dim"}
_ASCII = str.maketrans("◆●├┤┼─│┊╎·←→\u2212…", "o*||+-|!:.<>-.")
_NOT_XML = re.compile("[\ufffe\uffff]")
_ANSWERS = {Status.INCONCLUSIVE: Outcome.INCONCLUSIVE}


@dataclass(frozen=True)
class Answer:
    """What `assay decide` found."""

    verdict: Verdict
    baseline: str
    candidate: str
    notes: tuple[str, ...] = ()
    """What a person should know beside the verdict."""

    @property
    def outcome(self) -> Outcome:
        """The word; evidence that a gate refused is ANOMALOUS, a run that goes on leaves it open."""
        return self.verdict.outcome or _ANSWERS.get(self.verdict.status, Outcome.ANOMALOUS)

    @property
    def mark(self) -> Mark:
        """The word with its tone and sign."""
        return outcome_mark(self.outcome)

    @cached_property
    def comparison(self) -> Comparison | None:
        """What is drawn; None if nothing was compared."""
        return comparison(self.verdict)

    @property
    def refusals(self) -> tuple[Reason, ...]:
        """The findings of the gate that refused, where there is one."""
        if self.verdict.status is not Status.ERROR and self.verdict.gate == "compare":
            return ()
        return tuple(r for r in self.verdict.reasons if not r.ok)


def print_answer(answer: Answer, console: Console | None = None) -> None:
    """The word, the sentence, the forest plot, the point rule's verdict and what would settle it.

    Args:
        answer: what was found.
        console: where; stdout by default.
    """
    console = console or result_console()
    for line in text_lines(answer, console.width):
        if not console.encoding.lower().startswith("utf"):
            line.plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode()
        console.print(line, soft_wrap=True)


def text_lines(answer: Answer, width: int) -> list[Text]:
    """The lines of the answer for a terminal of `width` cells."""
    tone = _TONE[answer.mark.tone]
    lines = [
        Text(answer.mark.word, style=f"bold {tone}").append(
            f"  {one_line(answer.verdict.detail)}", "not bold default"
        )
    ]
    drawn = answer.comparison
    if drawn is not None:
        lines += [Text(), *_forest(drawn, width), Text()]
        lines += [Text(note) for note in drawn.notes]
        if drawn.point is not None:
            own = Text("point rule  ", style="dim").append(
                drawn.point.mark.word, _TONE[drawn.point.mark.tone]
            )
            lines.append(own.append(f"  {drawn.point.detail}. {drawn.point.why}", "not bold default"))
    refusals = answer.refusals
    for reason in refusals[:REASONS_SHOWN]:
        where = f"{one_line(reason.where, 60)}: " if reason.where else ""
        lines.append(Text(f"  {where}{one_line(reason.text)}"))
    if len(refusals) > REASONS_SHOWN:
        lines.append(Text(f"  and {len(refusals) - REASONS_SHOWN} more; `--json` lists all", style="dim"))
    return lines + [Text(f"note  {one_line(note)}", style="dim") for note in answer.notes]


def _cells(row: Row) -> tuple[str, ...]:
    lost = f"{row.lost} / {row.won}" if row.lost else ""
    score = f"{row.baseline} → {row.candidate}"
    return row.drop, row.interval, score, lost, row.pairs, row.mark.word, row.point.word if row.point else ""


_HEADS = ("drop", "interval", "scores", "lost / won", "pairs", "verdict", "point rule")
_LEFT = frozenset({"verdict", "point rule"})
_SPARED = {"scores": 40, "point rule": PLOT_CELLS[0], "lost / won": PLOT_CELLS[0], "pairs": PLOT_CELLS[0]}
"""Columns that a narrow terminal goes without, in this order, and the plot's width that each gives way to."""


def _forest(drawn: Comparison, width: int) -> list[Text]:
    cells = [dict(zip(_HEADS, _cells(row), strict=True)) for row in drawn.rows]
    names = [one_line(row.task, 200) for row in drawn.rows]
    name = min(NAME_CELLS, max(map(cell_len, [*names, "task"])))
    wide = _columns(cells, width - name - 2)
    plot = width - name - 2 - sum(2 + w for w in wide.values())
    plot = min(PLOT_CELLS[1], max(PLOT_CELLS[0], plot))
    middle = "drop, points of 100" if plot >= 36 else "points"
    heads = "".join("  " + _justified(h, h, w) for h, w in wide.items())
    head = f"{'task':<{name}}  {'← better':<8}{middle:^{plot - 15}}worse →{heads}"
    lines = [Text(head.rstrip(), style="dim")]
    for row, values, label in zip(drawn.rows, cells, names, strict=True):
        shown = label if cell_len(label) <= name else f"{set_cell_size(label, name - 1).rstrip()}…"
        line = Text(set_cell_size(shown, name), style="bold" if row.primary else "")
        line.append("  ").append_text(_plot(row, drawn, plot))
        tones = {"verdict": _TONE[row.mark.tone], "point rule": _TONE[row.point.tone] if row.point else ""}
        for h, w in wide.items():
            line.append("  ").append(_justified(h, values[h], w), tones.get(h, ""))
        line.rstrip()
        lines.append(line)
    return [*lines, Text(" " * (name + 2) + _ticks(drawn, plot), style="dim"), _key(drawn)]


def _columns(cells: Sequence[Mapping[str, str]], room: int) -> dict[str, int]:
    """The columns that fit beside the plot, and their widths."""
    wide = {
        h: max(len(h), *(cell_len(values[h]) for values in cells))
        for h in _HEADS
        if any(values[h] for values in cells)
    }
    for spared, plot in _SPARED.items():
        if plot + sum(2 + w for w in wide.values()) > room:
            wide.pop(spared, None)
    return wide


def _justified(head: str, text: str, width: int) -> str:
    return f"{text:<{width}}" if head in _LEFT else f"{text:>{width}}"


def _at(percent: float, width: int) -> int:
    return round(percent / 100.0 * (width - 1))


def _plot(row: Row, drawn: Comparison, width: int) -> Text:
    """One row: what is accepted is dotted, the interval a line, the estimate a sign on it."""
    cells = [" "] * width
    limit = None if row.limit is None else _at(row.limit, width)
    if limit is not None:
        cells[:limit] = "·" * limit
    cells[_at(drawn.zero, width)] = "│"
    if limit is not None:
        cells[limit] = "┊" if row.primary else "╎"
    low = high = None
    if row.low is not None and row.high is not None:
        low, high = _at(row.low, width), _at(row.high, width)
        cells[low : high + 1] = "─" * (high - low + 1)
        if limit is not None and low < limit < high:
            cells[limit] = "┼"
        cells[low], cells[high] = "├", "┤"
    at = _at(row.at, width)
    cells[at] = "◆" if row.primary else "●"
    text = Text("".join(cells), style="dim")
    text.stylize(
        f"not dim {_TONE[row.mark.tone]}", at if low is None else low, (at if high is None else high) + 1
    )
    return text


def _ticks(drawn: Comparison, width: int) -> str:
    line = [" "] * (width + 8)
    free = -1
    for tick in drawn.ticks:
        start = max(0, _at(tick.at, width) - len(tick.label) // 2)
        if start > free:
            line[start : start + len(tick.label)] = tick.label
            free = start + len(tick.label)
    return "".join(line).rstrip()


def _key(drawn: Comparison) -> Text:
    words = [
        "◆ mean" if any(r.primary for r in drawn.rows) else "",
        "● task",
        f"├─┤ {drawn.level_text} interval" if drawn.level_text else "",
        f"┊ margin {drawn.margin_text}" if drawn.margin is not None else "",
        "╎ limit of a task",
        "· accepted if the whole interval lies here",
    ]
    return Text("   ".join(filter(None, words)), style="dim")


def write_picture(answer: Answer, out: Path) -> None:
    """Write the picture; its form is that of the file's name.

    Args:
        answer: what was found.
        out: a file that ends in `.svg`; a page in HTML otherwise.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    text = render_svg(answer) if out.suffix.lower() == ".svg" else render_html(answer)
    write_atomic(out, text.encode("utf-8"))


def render_html(answer: Answer) -> str:
    """The answer as one page that stands alone, without network and scripts."""
    forest = Markup()
    if answer.comparison is not None:
        macros = environment().get_template("macros.html.j2").make_module()
        drawn = str(macros.forest(answer.comparison, "the candidate"))  # type: ignore[attr-defined]
        # the report's own words name the source of a release; quotes and arrows are escaped in foreign text
        drawn = drawn.replace("source &rarr; candidate", "baseline &rarr; candidate")
        drawn = drawn.replace('"pairs that only the source got', '"pairs that only the baseline got')
        forest = Markup(drawn)  # noqa: S704 - made by a template that escapes
    return filled("decide.html.j2", answer=answer, forest=forest)


def render_svg(answer: Answer) -> str:
    """The answer as one SVG picture, for a README or a pull request."""
    drawn = answer.comparison
    sentence = _wrapped(one_line(answer.verdict.detail, 600), 108)
    below = list(drawn.notes) if drawn else [one_line(r.text) for r in answer.refusals[:REASONS_SHOWN]]
    if drawn and drawn.point:
        below.append(f"Point rule: {drawn.point.mark.word}. {drawn.point.why}")
    text = filled(
        "decide.svg.j2",
        answer=answer,
        drawn=drawn,
        sentence=sentence,
        below=[line for note in below for line in _wrapped(note, 136)],
        row_px=ROW_PX,
        cut=lambda name: one_line(name, 20),
    )
    return _NOT_XML.sub("\ufffd", text)


def _wrapped(text: str, width: int) -> list[str]:
    return [str(line) for line in Text(text).wrap(Console(width=width), width)]
