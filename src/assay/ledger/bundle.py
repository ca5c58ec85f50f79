"""A Decision bundle: one zip file from which anyone derives a study's verdicts again, without the ledger.

Events of other studies in the same ledger are carried as digests alone, so that the chain can still be walked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.canon import PREFIX, canonical, digest, digest_bytes
from assay.core.errors import LedgerBroken, UnreadableInput
from assay.core.events import GENESIS, Event, EventType, link_digest
from assay.core.history import StudyHistory, replay
from assay.core.ports import Store
from assay.ledger.home import disk_error
from assay.ledger.verify import Check, Link

SCHEMA = "bundle/1"
MEMBER_LIMIT_BYTES = 1 << 30
"""Largest member that is read: a bundle may come from anybody."""


def write_bundle(path: Path, study: str, events: Iterable[Event], store: Store, report: bytes) -> None:
    """Write the bundle of one study.

    Raises:
        LedgerError: if the disk does not take it.
        LedgerBroken: if a document that it needs is gone or changed.
    """
    lines, head = [], ""
    needed: set[str] = set()
    for event in events:
        head = link_digest(event)
        if event.study == study:
            lines.append(canonical(event.to_json()))
            needed |= _documents(event)
        else:
            lines.append(canonical({"seq": event.seq, "previous": event.previous, "digest": head}))
    about = {"schema": SCHEMA, "study": study, "head": head, "report": digest_bytes(report)}
    documents = {d: store.get(d) for d in sorted(needed)}
    needed_too = {d for doc in documents.values() for d in (doc.get("reads") or {}).values()} - needed
    documents.update({d: store.get(d) for d in sorted(needed_too)})
    aside = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("bundle.json", canonical(about))
            bundle.writestr("events.jsonl", b"\n".join(lines) + b"\n")
            bundle.writestr("report.html", report)
            for key, document in documents.items():
                bundle.writestr(f"evidence/{key.removeprefix(PREFIX)}.json", canonical(document))
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def _documents(event: Event) -> set[str]:
    found = set()
    if event.type is EventType.STEP_FINISHED and event.data.get("evidence"):
        found.add(event.data["evidence"])
    if event.type is EventType.VERDICT_RECORDED:
        found.add(event.data["line"]["verdict"])
    return found


class Bundle:
    """A bundle opened for reading; also a store of its documents.

    Raises:
        UnreadableInput: if the file is no bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            about = json.loads(self._read("bundle.json"))
            self.study = str(about["study"])
            self.head = str(about["head"])
            self.report = about.get("report")
            """Digest of the page in it; None where an older Assay made the bundle."""
            schema = about["schema"]
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, NotImplementedError) as error:
            raise UnreadableInput(f"no Decision bundle: {error}", where=str(path)) from error
        if schema != SCHEMA:
            raise UnreadableInput(f"bundle schema {schema!r}", where=str(path), allowed=SCHEMA)

    def get(self, digest_: str) -> Mapping[str, Any]:
        """The document with that digest.

        Raises:
            LedgerBroken: if the bundle does not hold it, or holds other bytes under its name.
        """
        name = f"evidence/{digest_.removeprefix(PREFIX)}.json"
        try:
            value: Mapping[str, Any] = json.loads(self._read(name))
            found = digest(value)
        except (KeyError, ValueError, zipfile.BadZipFile, OSError) as error:
            raise LedgerBroken(f"document {digest_} cannot be read: {error}", where=str(self.path)) from error
        if found != digest_:
            raise LedgerBroken(f"document {digest_} was changed", where=str(self.path))
        return value

    def put(self, document: Mapping[str, Any]) -> str:
        """A bundle is never written to.

        Raises:
            LedgerBroken: always.
        """
        raise LedgerBroken("a bundle is read-only", where=str(self.path))

    def links(self) -> Iterator[Event | Link]:
        """The chain: this study's events, and digests of the others.

        Raises:
            LedgerBroken: if a line is neither.
        """
        try:
            lines = self._read("events.jsonl").splitlines()
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise LedgerBroken(f"no events: {error}", where=str(self.path)) from error
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
                yield Event.from_json(value) if "type" in value else Link(**value)
            except (ValueError, TypeError, ValidationError) as error:
                raise LedgerBroken(f"event {number} is unreadable", where=str(self.path)) from error

    def sealed(self) -> Iterator[Check]:
        """Whether its chain ends where it says, and its report is the one that it was made with."""
        links = list(self.links())
        last = links[-1] if links else None
        head = GENESIS if last is None else last.digest if isinstance(last, Link) else link_digest(last)
        cut = "" if head == self.head else "the chain does not end at the head that the bundle names"
        yield Check("chain", f"head after {len(links)} events", ok=not cut, detail=cut)
        if self.report is None:
            yield Check("report", "report.html", ok=None, detail="made by an Assay that kept no digest of it")
            return
        try:
            same = digest_bytes(self._read("report.html")) == self.report
        except (KeyError, ValueError, zipfile.BadZipFile, OSError):
            same = False
        changed = "" if same else "is not the page that the bundle was made with"
        yield Check("report", "report.html", ok=same, detail=changed)

    def history(self) -> StudyHistory:
        """The study's history.

        Raises:
            LedgerBroken: if the events are not those of a study.
        """
        events = [link for link in self.links() if isinstance(link, Event)]
        try:
            return replay(events, self.study)[self.study]
        except (KeyError, ValueError, TypeError) as error:
            raise LedgerBroken(f"the events do not replay: {error!r}"[:200], where=str(self.path)) from error

    def _read(self, name: str) -> bytes:
        if self._zip.getinfo(name).file_size > MEMBER_LIMIT_BYTES:
            raise ValueError(f"{name} is larger than {MEMBER_LIMIT_BYTES} bytes")
        return self._zip.read(name)
