"""Incidents: findings in, changes of alerts out. One incident a cause; what follows from it joins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assay.live.alert import AlertChange, value
from assay.live.classes import CLASSES, Family, Severity, StopMode, explains
from assay.live.rules.finding import CLEAR, Finding, Judged
from assay.live.thresholds import Thresholds, stop_modes
from assay.live.window import Window

OUTSIDE = (17, 18, 21, 23)
"""Classes whose findings come from outside the log: they are not found again by reading it again."""
_ATTEMPT_BOUND = (Family.DYNAMICS, Family.DATA, Family.SYSTEM, Family.CLASSICAL)


@dataclass
class _Incident:
    """An alert that was opened, and what the checker remembers of it."""

    change: AlertChange
    finding: Finding
    first_row: int
    last_row: int
    count: int = 1
    cleared: int = 0
    joined: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.change.state == "open"


class Incidents:
    """All alerts of an experiment and their states. The checker sets `window` and `time` before it reports."""

    def __init__(self) -> None:
        self.thresholds = Thresholds()
        self.modes = stop_modes(None)
        self.window = Window()
        self.time: str | None = None
        self.refused = 0
        self._kept: dict[str, _Incident] = {}
        self._ids: dict[tuple[str, str, int | None, int | None], str] = {}
        self._next = 1

    @property
    def newest(self) -> list[AlertChange]:
        """The newest line of every alert, oldest alert first."""
        return [i.change for i in self._kept.values()]

    def end_attempt(self, attempt: int) -> list[AlertChange]:
        """Resolve what belonged to an attempt that another follows."""
        changes: list[AlertChange] = []
        for incident in self._kept.values():
            if incident.open and CLASSES[incident.finding.number].family in _ATTEMPT_BOUND:
                changes += self.resolve(incident, f"attempt {attempt} began")
        return changes

    def remember(self, line: Mapping[str, Any]) -> None:
        """Take up an alert that an earlier life of the watcher wrote."""
        try:
            change = AlertChange.model_validate(dict(line))
        except (ValueError, TypeError):
            self.refused += 1
            return
        self._ids[change.identity] = change.id
        digits = change.id.removeprefix("a-")
        if digits.isdigit():
            self._next = max(self._next, int(digits) + 1)
        if change.number in OUTSIDE and change.number in CLASSES:
            finding = Finding(
                change.number, change.text, None, change.rule, None, change.text, key=change.key
            )
            kept = _Incident(change, finding, 0, 0, change.count, 0, list(change.joined))
            self._kept[change.id] = kept

    def settle(self, number_: int, judged: Judged, patience: int, key: str = "") -> list[AlertChange]:
        """Report a finding, or count a clear answer towards the end of an open alert."""
        if judged is CLEAR:
            changes: list[AlertChange] = []
            for incident in self.open_of(number_):
                if incident.finding.key == key:
                    incident.cleared += 1
                    if incident.cleared >= patience:
                        changes += self.resolve(incident, f"not found again in {patience} looks")
            return changes
        if judged is None:
            return []
        return self.report(judged if not key else _keyed(judged, key))

    def settle_keys(
        self,
        number_: int,
        found: list[Finding],
        *,
        keep: tuple[str, ...] = (),
        only: tuple[str, ...] | None = None,
    ) -> list[AlertChange]:
        """Report what an inspection found and resolve what it no longer finds."""
        changes = [c for f in found for c in self.report(f)]
        keys = {f.key for f in found}
        for incident in self.open_of(number_):
            key = incident.finding.key
            if key not in keys and key not in keep and (only is None or key in only):
                changes += self.resolve(incident, "the newest inspection does not find it")
        return changes

    def maybe(self, finding: Judged) -> list[AlertChange]:
        """Report a finding if it is one; a clear answer resolves nothing here."""
        return self.report(finding) if isinstance(finding, Finding) else []

    def report(self, finding: Finding) -> list[AlertChange]:
        """Open an alert, join it to the incident that explains it, or count it where it is open already."""
        row_of_class = CLASSES[finding.number]
        if self.modes[finding.number] is StopMode.OFF:
            return []
        row = self.window.row
        own = next((i for i in self.open_of(finding.number) if i.finding.key == finding.key), None)
        if own is not None:
            own.count, own.last_row, own.cleared = own.count + 1, row, 0
            harder = finding.certain and not own.finding.certain
            if (
                _severity(finding) != own.change.severity and _worse(_severity(finding), own.change.severity)
            ) or harder:
                own.finding = finding
                return [self._emit(own)]
            return []
        near = self.thresholds.join_rows
        for incident in self._kept.values():
            if (
                incident.last_row >= row - near
                and incident.change.attempt == self.window.attempt
                and (explains(incident.finding.number, finding.number))
            ):
                return self._join(incident, row_of_class.name)
        return self._open(finding)

    def _join(self, incident: _Incident, name: str) -> list[AlertChange]:
        if name in incident.joined:
            return []
        incident.joined.append(name)
        return [self._emit(incident)]

    def _open(self, finding: Finding) -> list[AlertChange]:
        w = self.window
        row = w.row
        effects = [
            i
            for i in self._kept.values()
            if i.open
            and i.first_row >= row - self.thresholds.join_rows
            and i.change.attempt == w.attempt
            and explains(finding.number, i.finding.number)
        ]
        first = max(w.first_step or 0, w.step - finding.since) if w.step is not None else None
        identity = (CLASSES[finding.number].name, finding.key, w.attempt, first)
        known = self._ids.get(identity)
        if known is None or (known in self._kept and self._kept[known].open):
            known = f"a-{self._next:04d}"
            self._next += 1
            self._ids[identity] = known
        incident = _Incident(_PLACEHOLDER, finding, row, row)
        incident.joined = [n for e in effects for n in (e.change.name, *e.joined)]
        incident.joined = list(dict.fromkeys(n for n in incident.joined if n != identity[0]))
        self._kept[known] = incident
        changes = [self._emit(incident, known, first)]
        for effect in effects:
            changes += self.resolve(effect, f"part of {known} {identity[0]}")
        return changes

    def _emit(self, incident: _Incident, id_: str | None = None, first: int | None = None) -> AlertChange:
        w, finding = self.window, incident.finding
        row = CLASSES[finding.number]
        fresh = id_ is not None
        stop = finding.certain and self.modes[finding.number] is StopMode.STOP
        incident.change = AlertChange(
            id=id_ or incident.change.id,
            time=self.time,
            attempt=w.attempt if fresh else incident.change.attempt,
            step=w.step,
            epoch=w.epoch,
            number=row.number,
            name=row.name,
            severity=_severity(finding),
            state="open" if fresh else incident.change.state,
            observed=value(finding.observed),
            reference=value(finding.reference),
            rule=finding.rule,
            threshold=value(finding.threshold),
            first_seen_step=first if fresh else incident.change.first_seen_step,
            count=incident.count,
            joined=tuple(incident.joined),
            action=row.action,
            text=str(value(finding.text)),
            key=str(value(finding.key)),
            stop=stop,
        )
        return incident.change

    def resolve(self, incident: _Incident, why: str) -> list[AlertChange]:
        """Close an alert and say why."""
        healed = incident.finding.number == 3
        incident.change = incident.change.model_copy(
            update={
                "time": self.time,
                "step": self.window.step,
                "epoch": self.window.epoch,
                "state": "resolved",
                "count": incident.count,
                "stop": False,
                "severity": Severity.INFO if healed else incident.change.severity,
                "text": f"{incident.change.text} (resolved: {why})",
            }
        )
        return [incident.change]

    def open_of(self, number_: int) -> list[_Incident]:
        """Open alerts of a class."""
        return [i for i in self._kept.values() if i.finding.number == number_ and i.open]


_PLACEHOLDER = AlertChange(
    id="", number=1, name="", severity=Severity.INFO, state="open", observed=None, reference=None, rule="",
    threshold=None, first_seen_step=None, count=1, action="", text="",
)  # fmt: skip


def _severity(finding: Finding) -> Severity:
    return finding.severity or CLASSES[finding.number].severity


_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


def _worse(a: Severity, b: Severity) -> bool:
    return _ORDER.index(a) > _ORDER.index(b)


def _keyed(finding: Finding, key: str) -> Finding:
    return replace(finding, key=key)
