"""Gate `setup`: before anything is paid for, is everything there that the study needs?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status

MACHINE = "machine"
READY = "ready"


class SetupPolicy(Policy):
    """What a machine must have."""

    disk_reserve_bytes: int = Field(default=256 * 2**20, ge=0)
    """Must stay free on top of what the study needs."""
    may_lack: tuple[str, ...] = ()
    """Kinds, as `VERB/KIND`, that the study can do without."""


class SetupGate:
    """Judges evidence of kind `machine`: components, disk, source.

    Args:
        policy: what the machine must have.
    """

    name = "setup"
    reads: tuple[str, ...] = (MACHINE,)

    def __init__(self, policy: SetupPolicy | None = None) -> None:
        self.policy = policy or SetupPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS, or FAIL with SYSTEMIC (the machine) or USER_CONFIG_ERROR (the request)."""
        machine = evidence.get(MACHINE)
        if machine is None:
            return self._verdict([(_bad("no machine evidence"), FailureClass.UNKNOWN)], {}, Status.ERROR)
        reads = {MACHINE: machine.content_digest}
        components = machine.facts.get("components")
        if not isinstance(components, list | tuple) or not components:
            lacking = _bad("the machine evidence lists no component: nothing was checked")
            return self._verdict([(lacking, FailureClass.UNKNOWN)], reads, Status.ERROR)
        found = [self._component(c) for c in components]
        found += [self._disk(machine.facts), _source(machine.facts.get("source"))]
        failing = any(failure is not None for _, failure in found)
        return self._verdict(found, reads, Status.FAIL if failing else Status.PASS)

    def _component(self, component: Any) -> tuple[Reason, FailureClass | None]:
        if not isinstance(component, Mapping):
            return _bad("a component entry is not an object"), FailureClass.SYSTEMIC
        name = f"{component.get('verb', '?')}/{component.get('kind', '?')}"
        state, detail = str(component.get("state", "unknown")), str(component.get("detail") or "")
        vendor = component.get("vendor")
        versions = (
            ", ".join(f"{k} {v}" for k, v in sorted(vendor.items())) if isinstance(vendor, Mapping) else ""
        )
        if state == READY:
            text = f"{name} is ready" + (f" ({versions})" if versions else "")
            return Reason(text=text, ok=True, where=name, measured=state, limit=READY), None
        text = f"{name} is {state}" + (f": {detail}" if detail else "")
        if name in self.policy.may_lack:
            return Reason(text=f"note: {text}", ok=True, where=name, measured=state, limit=READY), None
        # Broken and unsupported are the machine's doing; what is missing the user installs or unnames.
        failure = FailureClass.USER_CONFIG_ERROR if state == "missing" else FailureClass.SYSTEMIC
        return Reason(text=text, ok=False, where=name, measured=state, limit=READY), failure

    def _disk(self, facts: Mapping[str, Any]) -> tuple[Reason, FailureClass | None]:
        free, needed = facts.get("disk_free_bytes"), facts.get("disk_needed_bytes")
        if not isinstance(free, int) or not isinstance(needed, int) or not (_count(free) and _count(needed)):
            return _bad("free and needed disk space were not measured"), FailureClass.SYSTEMIC
        wanted = needed + self.policy.disk_reserve_bytes
        text = f"{_size(free)} of disk are free, {_size(wanted)} are needed ({_size(needed)} by the study)"
        reason = Reason(
            text=text,
            ok=free >= wanted,
            where="disk",
            measured=float(free),
            limit=float(wanted),
            unit="bytes",
        )
        return reason, None if reason.ok else FailureClass.SYSTEMIC

    def _verdict(
        self,
        found: list[tuple[Reason, FailureClass | None]],
        reads: Mapping[str, str],
        status: Status,
    ) -> Verdict:
        classes = [c for _, c in found if c is not None]
        order = (FailureClass.USER_CONFIG_ERROR, FailureClass.SYSTEMIC, FailureClass.UNKNOWN)
        failure = next((c for c in order if c in classes), None)
        reasons = tuple(r for r, _ in sorted(found, key=lambda pair: pair[0].ok))
        failing = [r.text for r in reasons if not r.ok]
        return Verdict(
            gate=self.name,
            status=status,
            failure_class=failure,
            # Nothing was said about any candidate: the study cannot begin.
            outcome=None if failure is None else Outcome.ANOMALOUS,
            detail="; ".join(failing)
            if failing
            else f"all {len(reasons)} things that the study needs are there",
            reasons=reasons,
            reads=reads,
        )


def _source(source: Any) -> tuple[Reason, FailureClass | None]:
    if not isinstance(source, Mapping):
        return _bad("whether the source can be read was not checked"), FailureClass.SYSTEMIC
    detail = str(source.get("detail") or "")
    if source.get("readable") is True:
        return Reason(text=detail or "the source can be read", ok=True, where="source"), None
    text = f"the source cannot be read{': ' + detail if detail else ''}"
    return Reason(text=text, ok=False, where="source"), FailureClass.USER_CONFIG_ERROR


def _bad(text: str) -> Reason:
    return Reason(text=text, ok=False)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60


def _size(count: float) -> str:
    """Not `core.sizes`: it stands in verdicts that ledgers keep, and they must derive again word for word."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
