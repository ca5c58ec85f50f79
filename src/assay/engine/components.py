"""What the engine is given instead of importing it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from assay.core.evidence import Artifact
from assay.core.gate import Gate
from assay.core.ports import Apply, Build, Evaluate, Execute, Propose, Serve
from assay.core.study import AdapterRef, GateRef


class Components(Protocol):
    """Makes adapters and gates from their references; the registry does it for real, tests do it with fakes."""

    def build(self, ref: AdapterRef) -> Build:
        """A build adapter."""
        ...

    def serve(self, ref: AdapterRef) -> Serve:
        """A serve adapter."""
        ...

    def evaluate(self, ref: AdapterRef) -> Evaluate:
        """An evaluate adapter."""
        ...

    def propose(self, ref: AdapterRef) -> Propose:
        """A propose adapter."""
        ...

    def apply(self, ref: AdapterRef) -> Apply:
        """An apply adapter."""
        ...

    def execute(self) -> Execute:
        """The execute adapter."""
        ...

    def gate(self, ref: GateRef) -> Gate:
        """A gate with its policy."""
        ...

    def pin(self, path: Path) -> Artifact:
        """Digest and size of a file or folder."""
        ...
