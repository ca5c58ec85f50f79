"""JUnit XML: one test case is one sample, 1 if it passed. A `failure` is the candidate's, an `error` is not.

The parser refuses every document type, so that no entity is ever declared, let alone expanded or fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.parsers import expat

from assay.core.errors import UnreadableInput
from assay.core.results import Results, RunStatus, SampleState, TaskResult
from assay.readers.results.harness import (
    Asked,
    Source,
    artifact,
    clip,
    measured,
    read_bytes,
    row_digest,
    some,
    text,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, identity

METRIC = "pass_rate"
MAX_CASES = 2_000_000
MAX_DEPTH = 64
_COUNTS = ("failures", "errors", "skipped")
_STATES = {
    "failure": SampleState.SCORED,
    "error": SampleState.INFRA_FAILURE,
    "skipped": SampleState.MISSING,
}


class _Refused(Exception):
    pass


class _Suite:
    """One test suite while it is read."""

    def __init__(self, name: str, told: Mapping[str, int | None]) -> None:
        self.name = name
        self.told = told
        self.seen = dict.fromkeys(_COUNTS, 0)
        self.columns = Columns()
        self.errors: dict[str, int] = {}


class _Reader:
    """Collects suites and cases from the parser's events."""

    def __init__(self) -> None:
        self.suites: list[_Suite] = []
        self._open: list[_Suite] = []
        self._case: dict[str, str] | None = None
        self._ended = SampleState.SCORED
        self._passed = True
        self._depth = 0
        self._cases = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
        if self._depth == 1 and name not in ("testsuites", "testsuite"):
            raise _Refused(f"its root is <{clip(name)}>, not <testsuites>")
        if name == "testsuite":
            told = {key: _count(attributes.get(key)) for key in ("tests", *_COUNTS)}
            suite = _Suite(text(attributes.get("name") or "tests"), told)
            self.suites.append(suite)
            self._open.append(suite)
        elif name == "testcase" and self._open:
            self._case, self._ended, self._passed = attributes, SampleState.SCORED, True
        elif name in _STATES and self._case is not None:
            self._open[-1].seen[name if name == "skipped" else f"{name}s"] += self._passed
            self._passed = False
            self._ended = _STATES[name]
            if name == "error":
                why = clip(attributes.get("message") or attributes.get("type") or "error")
                suite = self._open[-1]
                suite.errors[why] = suite.errors.get(why, 0) + 1

    def end(self, name: str) -> None:
        self._depth -= 1
        if name == "testsuite" and self._open:
            self._open.pop()
        elif name == "testcase" and self._case is not None:
            self._add(self._case)
            self._case = None

    def _add(self, case: Mapping[str, str]) -> None:
        self._cases += 1
        if self._cases > MAX_CASES:
            raise _Refused(f"more than {MAX_CASES:,} test cases")
        id_ = identity("::".join(p for p in (case.get("classname"), case.get("name")) if p))
        self._open[-1].columns.add(
            id_, prompt=row_digest(id_), score=float(self._passed), state=self._ended, output=""
        )


def _count(told: str | None) -> int | None:
    return int(told) if told and told.isascii() and told.isdecimal() and len(told) < 10 else None


class JUnit:
    """Reader of one file."""

    name = "junit"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        head = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
        return head[:1] == b"<" and b"<testsuite" in head

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        data = read_bytes(source.path)
        suites = _parse(data, str(source.path))
        tasks = tuple(_task(s, asked) for s in suites if len(s.columns) or s.told["tests"])
        if not tasks:
            raise UnreadableInput("no test case in it", where=str(source.path))
        return Results(
            subject=asked.subject,
            harness=self.name,
            tasks=tasks,
            protocol={"harness": "junit", "suites": ", ".join(sorted(t.task for t in tasks))},
            measurements=measured(tasks),
            artifacts=(artifact(source.path, data),),
        )


def _parse(data: bytes, where: str) -> list[_Suite]:
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: Any) -> Any:
        raise _Refused("it declares a document type or an entity, which no test report needs")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(data, True)
    except (_Refused, expat.ExpatError, ValueError, LookupError) as error:
        # LookupError: an encoding that Python does not know
        raise UnreadableInput(f"no JUnit XML: {clip(error)}", where=where) from error
    return reader.suites


def _task(suite: _Suite, asked: Asked) -> TaskResult:
    samples = suite.columns.samples()
    given = [s for s in samples.score if s is not None]
    score = sum(given) / len(given) if given else None
    scale = scale_of(METRIC, score, task=suite.name, table=asked.table)
    errors = [f"{n} cases ended with an error: {why}" for why, n in suite.errors.items()]
    errors += [
        f"the suite tells of {told} {key}, its cases of {suite.seen[key]}"
        for key in _COUNTS
        if (told := suite.told[key]) is not None and told != suite.seen[key]
    ]
    return TaskResult(
        task=suite.name,
        metric=METRIC,
        status=RunStatus.SUCCESS,
        score=score,
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=suite.told["tests"],
        errors=some(errors),
        samples=samples,
    )
