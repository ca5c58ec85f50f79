"""The error tree. An exception means that Assay could not do its work; a bad candidate is a Verdict.

AssayError
├── UsageError            exit 2   the request itself is wrong
│   ├── SpecError                  a key or value of a spec
│   └── UnreadableInput            a file that cannot be understood
├── ComponentError        exit 6
│   ├── ComponentMissing           a vendor package or program is not installed
│   └── ComponentFailed            it ran and failed; carries the failure class for triage
├── LedgerError           exit 7
│   ├── LedgerBroken               the chain of digests does not hold
│   └── LedgerBusy                 another process writes
└── Interrupted           exit 130
"""

from __future__ import annotations

from assay.core.vocabulary import FailureClass


class AssayError(Exception):
    """Root of all errors that Assay raises on purpose.

    Args:
        what: one sentence that says what went wrong.
        where: the file, key or component it happened at.
        allowed: what would have been accepted.
        next: the command or step that helps.
    """

    exit_code = 5

    def __init__(self, what: str, *, where: str = "", allowed: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.allowed = allowed
        self.next = next

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.allowed:
            text += f" (allowed: {self.allowed})"
        if self.next:
            text += f". Next: {self.next}"
        return " ".join(text.split())


class UsageError(AssayError):
    """The request cannot be carried out as it stands."""

    exit_code = 2


class SpecError(UsageError):
    """A spec holds an unknown key, a wrong value, or contradicts itself."""


class UnreadableInput(UsageError):
    """A file is missing or its bytes are not what they must be."""


class ComponentError(AssayError):
    """A vendor's component is missing or failed."""

    exit_code = 6


class ComponentMissing(ComponentError):
    """A package, program or interpreter that a kind needs is not there."""


class ComponentFailed(ComponentError):
    """A vendor's component ran and failed.

    Args:
        failure_class: decides what the engine does, by `core.triage`.
        log_tail: the end of what the component printed.
        cause: what it died of, where its log tells; a word of `core.tuning.Cause`.
    """

    def __init__(
        self,
        what: str,
        *,
        failure_class: FailureClass = FailureClass.UNKNOWN,
        where: str = "",
        next: str = "",
        log_tail: str = "",
        cause: str = "",
    ) -> None:
        super().__init__(what, where=where, next=next)
        self.failure_class = failure_class
        self.log_tail = log_tail
        self.cause = cause


class LedgerError(AssayError):
    """The ledger cannot be read or written."""

    exit_code = 7


class LedgerBroken(LedgerError):
    """A stored event does not match the digest chain."""


class LedgerBusy(LedgerError):
    """Another process is writing this ledger."""


class Interrupted(AssayError):
    """SIGINT or SIGTERM arrived; what is finished is in the ledger."""

    exit_code = 130
