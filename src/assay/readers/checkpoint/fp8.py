"""FP8 as model hubs publish it: one inverse scale per block of 128 x 128 (DeepSeek, Qwen), per row or per tensor."""

from __future__ import annotations

from assay.core.checkpoint import ModuleKind
from assay.readers.checkpoint.declared import TARGETED, read_modules, skipped, strings, whole
from assay.readers.checkpoint.layout import Container, Declaration, Layout
from assay.readers.checkpoint.precision import IGNORED, NOTHING, Claim

QUANT_METHODS: tuple[str | None, ...] = ("fp8", "fbgemm-fp8")
_NEVER = frozenset(
    {
        "gate",
        "router",
        "eh_proj",
        "weights_proj",
        "shared_expert_gate",
        "in_proj_a",
        "in_proj_b",
        "in_proj_ba",
        "conv1d",
    }
)
_TOWERS = ("visual.", "vision_tower.", "vision_model.", "audio_tower.")
"""Modules that no FP8 release converts, though not all lists say so: routers, the seam of MTP layers, towers."""


def read(container: Container, declaration: Declaration) -> Layout:
    """The modules; block sizes as declared, so that scales of another shape are found."""
    block = declaration.quantization or {}
    sides = block.get("weight_block_size")
    size = [whole(v) for v in sides] if isinstance(sides, list) and len(sides) == 2 else []
    fbgemm = str(block.get("quant_method", "")).lower().startswith("fbgemm")
    scheme = block.get("activation_scheme")
    claim = Claim(
        scheme="FP8",
        bits=8,
        activation=f"float8-{'row' if fbgemm else 'block' if size else 'tensor'}-{scheme or 'dynamic'}"[:60],
        granularity="channel" if fbgemm else None,
        block=(size[0], size[1]) if len(size) == 2 and size[0] and size[1] else None,
    )
    listed = block.get("modules_to_not_convert", block.get("ignored_layers"))
    skip = strings(listed)

    def claim_for(name: str, kind: ModuleKind) -> Claim:
        if kind not in TARGETED:
            return NOTHING
        if skipped(name, skip) or kind is ModuleKind.HEAD:
            return IGNORED
        return NOTHING if _never(name) else claim

    found = read_modules(container, claim_for)
    problems = [] if sides is None or claim.block else ["weight_block_size is not two whole numbers"]
    return Layout(found.modules, "", (*problems, *found.problems), asymmetric=found.asymmetric)


def _never(name: str) -> bool:
    return name.rpartition(".")[2] in _NEVER or any(tower in name for tower in _TOWERS)
