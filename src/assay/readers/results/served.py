"""Results of a served model: the server is part of how they were measured, the checkpoint of what answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.ports import Target
from assay.core.results import Results
from assay.readers.results.harness import flat


def served(results: Results, target: Target, more: Mapping[str, Any] | None = None) -> Results:
    """The results with what is known of the server in their protocol, and whose checkpoint it served.

    Args:
        results: as the harness's files say.
        target: what was evaluated.
        more: further facts of the protocol.
    """
    protocol: dict[str, Any] = dict(more or {})
    endpoint = target.endpoint
    if endpoint is not None:
        protocol |= {"engine": endpoint.engine, "engine_version": endpoint.engine_version}
        for key, value in endpoint.facts.items():
            protocol |= {} if key in protocol else flat(f"serve.{key}", value)
    facts = {"checkpoint_digest": target.digest} if target.digest else {}
    changes = {"protocol": {**results.protocol, **protocol}, "facts": {**results.facts, **facts}}
    return results.model_copy(update=changes)
