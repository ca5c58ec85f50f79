"""The source system's summary JSON, judged with its classes and precedence and without its holes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._checkpoint.findings import Finding, bad, good, worst

RECIPE_BUCKETS: Mapping[str, str] = {
    "nvfp4": "NVFP4",
    "nvfp4_mlp_only": "NVFP4",
    "nvfp4_experts_only": "NVFP4",
    "nvfp4_omlp_only": "NVFP4",
    "fp8": "FP8",
    "int4_awq": "INT4",
}
"""The recipes that a summary may name → the bucket they aim at."""
ALL_LINEARS = frozenset({"nvfp4", "fp8", "int4_awq"})
BUCKETS = ("NVFP4", "FP8", "INT4")
_BITS: Mapping[str, float] = {"NVFP4": 4.5, "FP8": 8.0, "INT4": 4.125}
LARGEST_RATIO = 0.95
"""A summary holds no shapes. Even where embeddings hold four fifths of the weights, quantizing the linears of a
16-bit model saves more than a twentieth; 0.99 says that almost nothing was quantized."""
_WIDEST_SOURCE_BITS = 32
_KNOWN_COUNTS = frozenset({*BUCKETS, "BF16_or_excluded", "unexpected_unquantized", "declaration_mismatch"})


def judge_summary(summary: Any, recipe: str | None = None) -> Verdict:
    """Judge a summary; any JSON value gives a verdict.

    Args:
        summary: what somebody wrote about a checkpoint.
        recipe: overrides the recipe that the summary records.
    """
    if not isinstance(summary, Mapping) or not summary:
        what = "is empty" if summary in ({}, None) else f"is {type(summary).__name__}, not an object"
        return _verdict([bad(f"the summary {what}", FailureClass.USER_CONFIG_ERROR)])
    name = recipe if recipe is not None else summary.get("recipe")
    bucket = RECIPE_BUCKETS.get(name.strip().lower()) if isinstance(name, str) else None
    findings = _sizes(summary, bucket)
    if bucket is None or not isinstance(name, str):
        known = ", ".join(RECIPE_BUCKETS)
        text = f"unknown recipe {str(name)[:60]!r}; a summary can be judged for: {known}"
        findings.append(bad(text, FailureClass.USER_CONFIG_ERROR))
    else:
        findings += _coverage(summary.get("layer_precision_counts"), bucket, name.strip().lower())
    findings += _metadata(summary.get("metadata_diffs"))
    return _verdict(findings)


def _sizes(summary: Mapping[str, Any], bucket: str | None) -> list[Finding]:
    source, output = summary.get("source_bytes"), summary.get("output_bytes")
    wrong = [n for n in ("source_bytes", "output_bytes") if not _positive(summary.get(n))]
    if wrong or not isinstance(source, int | float) or not isinstance(output, int | float):
        shown = ", ".join(f"{n}={str(summary.get(n))[:40]}" for n in wrong)
        return [bad(f"sizes must be numbers of bytes from 1 on: {shown}", FailureClass.USER_CONFIG_ERROR)]
    ratio = output / source
    numbers: dict[str, Any] = {"measured": round(ratio, 6), "unit": "of source"}
    if ratio >= 1.0:
        return [bad(f"the output is not smaller than the source: {ratio:.3f}", limit=1.0, **numbers)]
    if ratio > LARGEST_RATIO:
        text = f"the output is {ratio:.3f} of the source: too large for a quantized checkpoint"
        return [bad(text, limit=LARGEST_RATIO, **numbers)]
    least = _BITS[bucket] / _WIDEST_SOURCE_BITS * 0.98 if bucket else 0.0
    if ratio < least:
        text = f"the output is {ratio:.3f} of the source: smaller than all weights at {bucket} would be"
        return [bad(text, limit=round(least, 4), **numbers)]
    return [good(f"output is {ratio:.3f} of the source", limit=LARGEST_RATIO, **numbers)]


def _coverage(counts: Any, bucket: str, recipe: str) -> list[Finding]:
    counts = {} if counts is None else counts
    if not isinstance(counts, Mapping):
        return [bad("layer_precision_counts must be an object", FailureClass.USER_CONFIG_ERROR)]
    findings = [
        bad(f"{key} must be a whole number from 0 on, is {str(value)[:40]!r}", FailureClass.USER_CONFIG_ERROR)
        for key, value in sorted(counts.items(), key=lambda item: str(item[0]))
        if key in _KNOWN_COUNTS and not _count(value)
    ]
    covered = counts.get(bucket, 0)
    if _count(covered) and covered == 0:
        text = f"recipe {recipe} aims at {bucket} and 0 layers are: its patterns miss the model's names"
        findings.append(bad(text, FailureClass.MODEL_UNSUPPORTED, measured=0, limit=1, unit="layers"))
    for key, what in (
        ("unexpected_unquantized", "layers are unexpectedly unquantized"),
        ("declaration_mismatch", "layers differ from their declaration"),
    ):
        found = counts.get(key)
        if key not in counts:
            findings.append(bad(f"{key} is not reported", FailureClass.USER_CONFIG_ERROR))
        elif isinstance(found, int) and _count(found) and found > 0:
            findings.append(bad(f"{found} {what}", measured=found, limit=0, unit="layers"))
    return findings + _left_out(counts, bucket, recipe)


def _left_out(counts: Mapping[str, Any], bucket: str, recipe: str) -> list[Finding]:
    """A declared exclusion is no free pass: head, routers and vision tower are never most of a model's linears."""
    others = ["BF16_or_excluded", *(b for b in BUCKETS if b != bucket)]
    values = [counts.get(k, 0) for k in (bucket, *others)]
    if not all(_count(v) for v in values) or recipe not in ALL_LINEARS:
        return []
    covered, left = values[0], sum(values[1:])
    if covered == 0:
        return []
    numbers: dict[str, Any] = {"measured": left, "limit": covered, "unit": "layers"}
    if left > covered:
        text = (
            f"recipe {recipe} covers all linears, yet {left} layers are not {bucket} and only {covered} are"
        )
        return [bad(text, **numbers)]
    return [good(f"{covered} layers are {bucket}, {left} are not", **numbers)]


def _metadata(diffs: Any) -> list[Finding]:
    if not isinstance(diffs, list):
        what = "is not reported" if diffs is None else "must be a list of texts"
        return [bad(f"metadata_diffs {what}", FailureClass.USER_CONFIG_ERROR)]
    if diffs:
        return [bad(f"metadata differs from the source: {'; '.join(str(d)[:120] for d in diffs[:5])}")]
    return [good("no metadata difference is reported")]


def _positive(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and _finite(value) and value >= 1


def _finite(value: float) -> bool:
    # Python's integers have no limit; a float of one beyond 1e308 would raise.
    return abs(value) < 2**100 if isinstance(value, int) else math.isfinite(value) and abs(value) < 2**100


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _verdict(findings: list[Finding]) -> Verdict:
    failure = worst(findings)
    ordered = sorted(findings, key=lambda f: (f.failure_class != failure, f.failure_class is None))
    failing = [f.reason.text for f in ordered if not f.reason.ok]
    return Verdict(
        gate="checkpoint",
        status=Status.PASS if failure is None else Status.FAIL,
        failure_class=failure,
        outcome=None if failure is None else Outcome.INFEASIBLE,
        detail="; ".join(failing) if failing else "size, coverage and metadata are as they should be",
        reasons=tuple(f.reason for f in ordered),
        provenance=Provenance.SELF_REPORTED,
    )
