"""The same modules under other names: prefixes, fused and split projections, experts one by one or in one tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from assay.core.checkpoint import Checkpoint, Module

_MAX_EXPERTS = 8_192
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"^(?:module|_orig_mod|base_model\.model)\.", ""),
        (r"^thinker\.", ""),
        # transformers 5 wraps the text part of a model with several senses once more than transformers 4
        (r"^(?:model\.)?(?:language_model|text_model|llm)\.lm_head", "lm_head"),
        (r"^(?:model\.)?(?:language_model|text_model|llm)\.(?:model\.)?", "model."),
        (
            r"^model\.(visual|vision_\w+|audio_\w+|multi_modal_projector|mm_projector|embed_vision|mtp)\b",
            r"\1",
        ),
        (r"^(layers|embed_tokens|norm)\b", r"model.\1"),
        (r"\.block_sparse_moe\.", ".mlp."),
        (r"\.feed_forward\.", ".mlp."),
        (r"\.switch_mlp\.", ".experts."),
        (r"\.mlp\.router$", ".mlp.gate"),
        (r"\.shared_expert\.", ".shared_experts."),
        (r"(\.experts\.(?:\d+\.)?)w1$", r"\1gate_proj"),
        (r"(\.experts\.(?:\d+\.)?)w2$", r"\1down_proj"),
        (r"(\.experts\.(?:\d+\.)?)w3$", r"\1up_proj"),
    )
)
_QKV = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q", "k", "v"))
_FUSED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "qkv_proj": _QKV, "query_key_value": _QKV, "W_pack": _QKV, "Wqkv": _QKV, "c_attn": _QKV, "qkv": _QKV, "wqkv": _QKV,
    "gate_up_proj": (("gate_proj", "up_proj"),),
    "w13": (("w1", "w3"),),
    "kv_b_proj": (("k_b_proj", "v_b_proj"),),
    "fused_qkv_a_proj_with_mqa": (("q_a_proj", "kv_a_proj_with_mqa"),),
    "in_proj_qkvz": (("in_proj_qkv", "in_proj_z"),),
    "in_proj_ba": (("in_proj_b", "in_proj_a"),),
}  # fmt: skip
"""Last component of a fused module → the ways in which it is split elsewhere."""


@dataclass(frozen=True)
class Alignment:
    """Source and candidate under the same names, as finely split as the finer of the two."""

    source: Checkpoint
    modules: Mapping[str, Module]
    """The candidate's modules by the source's names; those that the source lacks under their own."""
    notes: tuple[str, ...] = ()


def canonical_name(name: str) -> str:
    """One spelling for the names that model families and toolkits give the same module."""
    for pattern, text in _SPELLINGS:
        name = pattern.sub(text, name)
    return name


def align(source: Checkpoint, candidate: Checkpoint) -> Alignment:
    """Bring both to the same names.

    Args:
        source: its names are kept where they are as fine as the candidate's.
        candidate: exports add and drop prefixes, fuse and split.
    """
    ours = {m.name: m for m in source.modules}
    theirs = {m.name: m for m in candidate.modules}
    aligned = {name: theirs[name] for name in ours if name in theirs}
    left = {n: m for n, m in ours.items() if n not in aligned}
    rest = {n: m for n, m in theirs.items() if n not in aligned}
    if not rest or not left:
        return Alignment(source, {**aligned, **rest})
    # A spelling that two modules share tells nothing.
    by_ours, by_theirs = _canonical(left), _canonical(rest)
    for spelling in sorted(by_ours.keys() & by_theirs.keys()):
        aligned[by_ours[spelling]] = rest.pop(by_theirs[spelling])
        del left[by_ours[spelling]]
    renamed = len(by_ours.keys() & by_theirs.keys())
    notes = [f"{renamed} modules were matched under other names"] if renamed else []
    if left and rest:
        notes += _resolve(ours, aligned, left, rest)
    changed = source.model_copy(update={"modules": tuple(ours.values())})
    return Alignment(changed, {**aligned, **rest}, tuple(notes))


def _resolve(
    ours: dict[str, Module], aligned: dict[str, Module], left: dict[str, Module], rest: dict[str, Module]
) -> list[str]:
    """Split what one side fuses, in place."""
    by_ours, by_theirs = _canonical(left), _canonical(rest)
    taken = split = 0
    for spelling, name in sorted(by_ours.items()):
        parts = _split(spelling, left[name], by_theirs)
        if parts is None:
            continue
        pieces = [rest.pop(by_theirs[p]) for p in parts]
        for piece, virtual in zip(pieces, _pieces(left[name], pieces), strict=True):
            ours[piece.name] = virtual
            aligned[piece.name] = piece
        del ours[name], left[name]
        taken += 1
    by_ours = _canonical(left)
    for spelling, name in sorted(_canonical(rest).items()):
        parts = _split(spelling, rest[name], by_ours)
        if parts is None:
            continue
        pieces = [left.pop(by_ours[p]) for p in parts]
        for piece, virtual in zip(pieces, _pieces(rest[name], pieces), strict=True):
            aligned[piece.name] = virtual
        del rest[name]
        by_ours = {s: n for s, n in by_ours.items() if n in left}
        split += 1
    notes = [f"{taken} fused modules of the source are split in the candidate"] if taken else []
    return [*notes, f"{split} modules of the candidate fuse several of the source"] if split else notes


def _split(spelling: str, module: Module, others: Mapping[str, str]) -> tuple[str, ...] | None:
    return next((w for w in _ways(spelling, module) if all(p in others for p in w)), None)


def _ways(spelling: str, module: Module) -> Iterator[tuple[str, ...]]:
    head, _, last = spelling.rpartition(".")
    fused = _FUSED.get(last, ())
    for parts in fused:
        yield tuple(f"{head}.{p}" for p in parts)
    if head.endswith(".experts") and len(module.shape) == 3 and module.shape[0] <= _MAX_EXPERTS:
        for parts in (*fused, (last,)):
            yield tuple(f"{head}.{e}.{p}" for e in range(module.shape[0]) for p in parts)


def _pieces(fused: Module, pieces: list[Module]) -> list[Module]:
    """A fused module cut like its counterparts; where the number of weights differs it keeps its own shape."""
    fits = math.prod(fused.shape) == sum(math.prod(p.shape) for p in pieces)
    return [
        fused.model_copy(update={"name": p.name, "shape": p.shape if fits else fused.shape, "kind": p.kind})
        for p in pieces
    ]


def _canonical(modules: Mapping[str, Module]) -> dict[str, str]:
    found: dict[str, str] = {}
    twice: set[str] = set()
    for name in modules:
        spelling = canonical_name(name)
        if spelling in found:
            twice.add(spelling)
        found[spelling] = name
    return {s: n for s, n in found.items() if s not in twice}
