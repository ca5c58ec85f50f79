"""Gate `checkpoint`: is the candidate what its recipe promises, complete, loadable, of the right size?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._checkpoint import coverage, fidelity, loader, metadata, size
from assay.gates._checkpoint.findings import Finding, good, worst
from assay.gates._checkpoint.intent import FROM_DECLARATION, QUANTIZABLE, Intent, resolve
from assay.gates._checkpoint.renames import align
from assay.gates._checkpoint.summary import judge_summary

__all__ = ["CheckpointGate", "CheckpointPolicy", "intrinsic", "judge_summary", "resolve"]

UNMAPPED = "names of llama.cpp that are not known here"
"""In a note of the GGUF reader: what it cannot name cannot be compared."""
FUSING = frozenset({"vllm", "sglang"})
SOURCE, CANDIDATE = "source.checkpoint", "candidate.checkpoint"


class CheckpointPolicy(Policy):
    """What a checkpoint is held to."""

    recipe: str | None = None
    """Recipe by name, case-blind: nvfp4, fp8, int4_awq, W4A16, Q4_K_M, `none`, `from-declaration`, ...
    None = as the candidate's evidence says (`facts.intent`), else from-declaration, which the verdict notes."""
    intent: Mapping[str, Any] = Field(default_factory=dict)
    """Instead of a name: scheme or num_bits, targets, ignore, group_size. Wins over `recipe`."""
    recipes: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Recipes of your own beside the table's: name → intent, such as `{mine: {recipe: fp8, ignore: [lm_head]}}`."""
    may_lose: tuple[str, ...] = ()
    """Patterns of modules that the release leaves out on purpose, such as `mtp.*`."""
    accept_metadata: tuple[str, ...] = ()
    """Metadata differences that are meant, as `file:key` (`config.json:max_position_embeddings`), with wildcards."""
    size_tolerance_frac: float = Field(default=0.02, ge=0, le=0.5)
    """Allowed relative distance from the computed size."""
    metadata: Literal["block", "warn"] = "block"
    """Whether a lost tokenizer, template or setting refuses the checkpoint."""
    engine: str | None = None
    """Serve kind that will load it: transformers, vllm, sglang, llama_cpp. None = the candidate's
    `intent.engine`, else not checked."""
    also_loads: tuple[str, ...] = ()
    """quant_methods that this engine loads here although the table does not know it."""
    max_weight_error: Mapping[str, float] = Field(default_factory=dict)
    """Largest relative RMS between stored and source weights, by scheme or by bits; added to the defaults
    (`gates._checkpoint.fidelity.DEFAULT_LIMITS`)."""
    require_fidelity: bool = False
    """Refuse to judge a quantized candidate of which no weight could be compared with the source."""


class CheckpointGate:
    """Judges a candidate's checkpoint against its source and its promise.

    Args:
        policy: what it is held to.
    """

    name = "checkpoint"
    reads: tuple[str, ...] = (SOURCE, CANDIDATE)

    def __init__(self, policy: CheckpointPolicy | None = None) -> None:
        self.policy = policy or CheckpointPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS, FAIL (INFEASIBLE) with a failure class, or ERROR where it cannot be judged."""
        source, candidate = evidence.get(SOURCE), evidence.get(CANDIDATE)
        if not isinstance(source, Checkpoint) or not isinstance(candidate, Checkpoint):
            lacking = SOURCE if not isinstance(source, Checkpoint) else CANDIDATE
            return self._error(f"no checkpoint evidence for {lacking}", evidence)
        if source.weight_bytes == 0 or not source.modules:
            return self._error("the source holds no weights: nothing to compare with", evidence)
        try:
            intent, notes = self._intent(candidate)
        except ValueError as error:
            return self._error(str(error), evidence)
        if self.policy.require_fidelity and _unmeasured(intent, candidate):
            return self._error("no stored weight could be compared with the source", evidence)
        unmapped = next((n for n in _notes(candidate) if UNMAPPED in n), None)
        if unmapped is not None:
            return self._error(f"cannot be compared with the source: {unmapped}", evidence)
        engine = self.policy.engine or _engine(candidate)
        given, alignment = source, align(source, candidate)
        source, aligned = alignment.source, alignment.modules
        findings = [
            *notes,
            *loader.check(candidate, engine, frozenset(self.policy.also_loads)),
            *coverage.check(intent, source, aligned, candidate.quant_method),
            *coverage.modules(source, aligned, tied=_tied(source), may_lose=self.policy.may_lose),
            *_fused(candidate, aligned, engine),
            *coverage.stored(candidate),
            *coverage.declaration(aligned, candidate.quant_method),
            *size.check(
                intent, source, candidate, aligned, self.policy.size_tolerance_frac, self.policy.may_lose
            ),
            *fidelity.check(candidate, {**fidelity.DEFAULT_LIMITS, **self.policy.max_weight_error}),
            *metadata.check(source, candidate, self.policy.metadata, self.policy.accept_metadata),
            *[good(f"note: source checkpoint: {p}") for p in source.problems],
            *[good(f"note: {n}") for n in (*alignment.notes, *_notes(candidate))],
        ]
        reads = {SOURCE: given.content_digest, CANDIDATE: candidate.content_digest}
        return self._verdict(findings, intent, source, candidate, reads)

    def _intent(self, candidate: Checkpoint) -> tuple[Intent, list[Finding]]:
        promise = candidate.facts.get("intent")
        if self.policy.intent:
            return resolve(self.policy.intent, self.policy.recipes), []
        if self.policy.recipe is not None:
            return resolve({"recipe": self.policy.recipe}, self.policy.recipes), []
        if isinstance(promise, Mapping) and promise:
            return resolve(promise, self.policy.recipes), []
        note = "no recipe was named: judged against the checkpoint's own declaration"
        return resolve({"recipe": FROM_DECLARATION}), [good(f"note: {note}")]

    def _verdict(
        self,
        findings: list[Finding],
        intent: Intent,
        source: Checkpoint,
        candidate: Checkpoint,
        reads: Mapping[str, str],
    ) -> Verdict:
        failure = worst(findings)
        ordered = sorted(findings, key=lambda f: (f.failure_class != failure, f.failure_class is None))
        reasons = tuple(f.reason.model_copy(update={"evidence": reads[CANDIDATE]}) for f in ordered)
        ratio = candidate.weight_bytes / source.weight_bytes
        if failure is None:
            detail = f"{intent.recipe}: {ratio:.3f} of the source's bytes, complete and as promised"
        else:
            failing = [r.text for r in reasons if not r.ok]
            more = f" (and {len(failing) - 2} more)" if len(failing) > 2 else ""
            detail = "; ".join(failing[:2]) + more
        return Verdict(
            gate=self.name,
            status=Status.PASS if failure is None else Status.FAIL,
            failure_class=failure,
            outcome=None if failure is None else Outcome.INFEASIBLE,
            detail=detail,
            reasons=reasons,
            provenance=candidate.provenance,
            reads=reads,
            extra=_figures(intent, source, candidate),
        )

    def _error(self, why: str, evidence: Mapping[str, Evidence]) -> Verdict:
        return Verdict(
            gate=self.name,
            status=Status.ERROR,
            failure_class=FailureClass.USER_CONFIG_ERROR,
            outcome=Outcome.ANOMALOUS,
            detail=why,
            reasons=(Reason(text=why, ok=False),),
            reads={role: e.content_digest for role, e in evidence.items() if role in self.reads},
        )


def intrinsic(
    candidate: Checkpoint, recipe: str | None = None, recipes: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Finding, ...]:
    """What a checkpoint shows to be wrong with itself, without a source: files, tensors, declaration, metadata.

    Args:
        candidate: any checkpoint, quantized or not.
        recipe: what it was meant to be, if that is known.
        recipes: recipes of the user beside the table's.

    Raises:
        ValueError: if the recipe is not known.
    """
    aligned = {m.name: m for m in candidate.modules}
    intent = resolve({"recipe": recipe}, recipes) if recipe else None
    return (
        *(coverage.check(intent, candidate, aligned, candidate.quant_method) if intent else ()),
        *coverage.stored(candidate),
        *coverage.declaration(aligned, candidate.quant_method),
        *_fused(candidate, aligned, None),
        *metadata.consistency(candidate),
        *[good(f"note: {n}") for n in _notes(candidate)],
    )


def _fused(candidate: Checkpoint, aligned: Mapping[str, Module], engine: str | None) -> list[Finding]:
    """What engines that fuse projections trip over; llama.cpp, which alone loads GGUF, does not fuse them."""
    strict = engine in FUSING
    if candidate.quant_method == "gguf" and not strict:
        return []
    return [*coverage.fused_groups(aligned, strict=strict), *coverage.fused_scales(candidate, strict=strict)]


def _tied(source: Checkpoint) -> bool:
    """Whether the head is the embedding: as declared, else as stored (many configs leave a default out)."""
    config = source.metadata.get("config")
    config = config if isinstance(config, Mapping) else {}
    inner = config.get("text_config")
    for block in (config, inner if isinstance(inner, Mapping) else {}):
        if isinstance(block.get("tie_word_embeddings"), bool):
            return bool(block["tie_word_embeddings"])
    return not any(m.kind is ModuleKind.HEAD for m in source.modules)


def _notes(candidate: Checkpoint) -> list[str]:
    found = candidate.facts.get("notes")
    return [str(n) for n in found] if isinstance(found, list | tuple) else []


def _engine(candidate: Checkpoint) -> str | None:
    promise = candidate.facts.get("intent")
    found = promise.get("engine") if isinstance(promise, Mapping) else None
    return found if isinstance(found, str) else None


def _unmeasured(intent: Intent, candidate: Checkpoint) -> bool:
    quantizes = bool(intent.schemes) or intent.from_declaration
    return quantizes and not any(
        m.name == fidelity.NAME and m.value is not None for m in candidate.measurements
    )


def _figures(intent: Intent, source: Checkpoint, candidate: Checkpoint) -> dict[str, Any]:
    counts = Counter(m.scheme for m in candidate.modules if m.kind in QUANTIZABLE)
    return {
        "recipe": intent.recipe,
        "source_bytes": source.weight_bytes,
        "output_bytes": candidate.weight_bytes,
        "ratio": round(candidate.weight_bytes / source.weight_bytes, 6),
        "layer_precision_counts": dict(sorted(counts.items())),
    }
