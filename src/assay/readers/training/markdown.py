"""The texts that people and agents write: hypothesis.md, result.md, diagnosis.md, next.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from assay.core.evidence import Measurement
from assay.core.experiment import Hypothesis, ResultFile
from assay.core.experiment_state import text_of
from assay.core.vocabulary import State
from assay.readers.training.lines import clean, plain, plain_object
from assay.readers.yaml_text import parse_yaml

IDEAS_KEPT = 50
_FENCE = re.compile(r"-{3,}\s*")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*")
_PARENT = re.compile(r"(?m)^parent_id:[ \t]*['\"]?(?!(?:null|~)\b)([\w.-]+)['\"]?[ \t]*$")
_BULLET = re.compile(r"\s{0,3}[-*+]\s+(?:\[[ xX]\]\s+)?(.*)")


def parse_hypothesis(data: bytes) -> Hypothesis:
    """The claim (first paragraph under `# Hypothesis`) and its rationale."""
    block, body, problems = _split(data)
    problems = [p for p in problems if not p.startswith("the front matter")]
    sections = _sections(body)
    claim = _paragraph(sections.get("hypothesis", ""))
    if not claim:
        claim = _paragraph(sections.get("", "")) or next(
            (p for t in sections.values() if (p := _paragraph(t))), ""
        )
    if not claim:
        problems.append("no claim: the first paragraph under '# Hypothesis' is missing")
    return Hypothesis(
        digest=hashlib.sha256(data).hexdigest(),
        text=text_of(claim),
        rationale=text_of(_joined(sections.get("rationale", ""))),
        # One key of it is of use: a list of hundreds of experiments must not wait for a YAML parser.
        parent=text_of(found[1] if (found := _PARENT.search(block)) else None),
        problems=tuple(problems),
    )


def parse_result(data: bytes) -> ResultFile:
    """What result.md claims. Without front matter, `oracle_tier` and a finite primary metric it cannot be used."""
    front, body, problems = split_front_matter(data)
    if not front and not problems:
        problems.append("no front matter: the file must begin with a block between two lines of ---")
    if front and not isinstance(front.get("oracle_tier"), str):
        problems.append("oracle_tier is missing")
    primary, delta = _primary(front.get("primary_metric"), problems) if front else (None, None)
    secondary = front.get("secondary_metrics")
    metrics = (
        tuple(_measure(text_of(k), v) for k, v in secondary.items()) if isinstance(secondary, Mapping) else ()
    )
    problems += [f"secondary metric {_why(m)}" for m in metrics if m.state is not State.MEASURED]
    return ResultFile(
        digest=hashlib.sha256(data).hexdigest(),
        claimed_tier=text_of(front.get("oracle_tier")),
        primary=primary,
        claimed_delta=delta,
        secondary=metrics,
        shortfalls=tuple(_bullets(_sections(body).get("shortfalls", ""))),
        evaluated_at=text_of(plain(front.get("evaluated_at"))),
        problems=tuple(problems),
    )


def parse_next(data: bytes) -> tuple[str, ...]:
    """Ideas of next.md: the first bullet of each `## ` section, else the bullets under the title."""
    _, body, _ = split_front_matter(data)
    ideas: list[str] = []
    level_two: list[list[str]] = []
    loose: list[str] = []
    for line in body.splitlines():
        heading = _HEADING.fullmatch(line)
        if heading and len(heading[1]) == 2:
            level_two.append([])
        elif level_two and not heading:
            level_two[-1].append(line)
        else:
            loose.append(line)
    for lines in level_two:
        text = "\n".join(lines)
        idea = next(iter(_bullets(text)), "") or _paragraph(text)
        if idea:
            ideas.append(idea)
    return tuple((ideas or _bullets("\n".join(loose)))[:IDEAS_KEPT])


def text(data: bytes) -> str:
    """The bytes as text; what is no UTF-8 is replaced."""
    return clean(data.decode("utf-8", "replace")).replace("\r\n", "\n").lstrip("\ufeff")


def split_front_matter(data: bytes) -> tuple[dict[str, Any], str, list[str]]:
    """Front matter as YAML gives it, the text below it, and what is wrong with it."""
    block, body, problems = _split(data)
    if not block:
        return {}, body, problems
    front, wrong = _yaml(block)
    if wrong:
        problems.append(f"front matter: {wrong}")
    elif not isinstance(front, Mapping) or not front:
        problems.append("the front matter is no mapping")
    return (dict(front) if isinstance(front, Mapping) else {}), body, problems


def _split(data: bytes) -> tuple[str, str, list[str]]:
    """The block of front matter without its fences, the text below it, and what is wrong with them."""
    problems: list[str] = []
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"not UTF-8 text: {error.reason}")
    lines = text(data).split("\n")
    if not _FENCE.fullmatch(lines[0]):
        return "", "\n".join(lines), problems
    end = next((i for i, line in enumerate(lines[1:], 1) if _FENCE.fullmatch(line)), None)
    if end is None:
        return "", "\n".join(lines[1:]), [*problems, "the front matter has no end"]
    block = "\n".join(lines[1:end])
    if not block.strip():
        problems.append("the front matter is no mapping")
    return block, "\n".join(lines[end + 1 :]), problems


def _yaml(source: str) -> tuple[Any, str]:
    value, wrong = parse_yaml(source)
    return value, f"not YAML: {wrong}" if wrong else ""


def parse_config(data: bytes) -> tuple[dict[str, Any], str]:
    """config.yaml as plain JSON, and why it is none."""
    value, wrong = _yaml(text(data))
    if wrong:
        return {}, wrong
    if value is None:
        return {}, ""
    return (
        (plain_object(value), "") if isinstance(value, Mapping) else ({"value": plain(value)}, "no mapping")
    )


def _primary(value: Any, problems: list[str]) -> tuple[Measurement | None, Measurement | None]:
    if not isinstance(value, Mapping):
        problems.append("primary_metric is missing")
        return None, None
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        problems.append("primary_metric.name is missing")
        return None, None
    primary = _measure(text_of(name.strip()), value.get("value"))
    if primary.state is not State.MEASURED:
        problems.append(f"primary_metric.value: {_why(primary)}")
    given = value.get("delta_vs_parent")
    delta = None if given is None else _measure("delta_vs_parent", given)
    if delta is not None and delta.state is not State.MEASURED:
        problems.append(f"primary_metric.{_why(delta)}")
    return primary, delta


def _measure(name: str, value: Any) -> Measurement:
    if isinstance(value, str | bool | int | float) or value is None:
        try:
            return Measurement.of(name, clean(value) if isinstance(value, str) else value)
        except OverflowError:
            return Measurement(name=name, state=State.NONFINITE, detail="too large")
    return Measurement(name=name, state=State.ERRORED, detail=f"not a number: {type(value).__name__}")


def _why(measurement: Measurement) -> str:
    words = {State.MISSING: "has no value", State.NONFINITE: "is not finite"}
    return f"{measurement.name} {words.get(measurement.state, measurement.detail)}"


def _sections(body: str) -> dict[str, str]:
    """Heading in lower case → the text under it; text above the first heading has no name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in body.splitlines():
        heading = _HEADING.fullmatch(line)
        if heading:
            name = heading[2].strip().lower().rstrip(":")
            found.setdefault(name, [])
        else:
            found[name].append(line)
    return {k: "\n".join(v) for k, v in found.items()}


def _paragraph(source: str) -> str:
    """The first paragraph, on one line."""
    lines: list[str] = []
    for line in source.splitlines():
        if line.strip():
            lines.append(line.strip())
        elif lines:
            break
    return " ".join(lines)


def _joined(source: str) -> str:
    return " ".join(source.split())


def _bullets(source: str) -> list[str]:
    """Bullets of the outermost level; a line that continues one belongs to it."""
    found: list[str] = []
    for line in source.splitlines():
        bullet = _BULLET.fullmatch(line)
        if bullet:
            found.append(bullet[1].strip())
        elif found and line.strip() and line[:1].isspace() and not line.lstrip().startswith(("-", "*", "+")):
            found[-1] += " " + line.strip()
    return [text_of(b) for b in found if b]
