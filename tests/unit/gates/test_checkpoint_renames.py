"""Names: the same model under other names is the same, and nothing is invented to make it fit."""

from __future__ import annotations

import pytest
from checkpoint_evidence import checkpoint, module
from hypothesis import given
from hypothesis import strategies as st

from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.vocabulary import Status
from assay.gates._checkpoint.renames import align, canonical_name
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy, intrinsic


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("language_model.model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("language_model.lm_head", "lm_head"),
        ("model.visual.blocks.0.attn.qkv", "visual.blocks.0.attn.qkv"),
        ("model.vision_tower.encoder.0.fc1", "vision_tower.encoder.0.fc1"),
        ("layers.3.mlp.up_proj", "model.layers.3.mlp.up_proj"),
        ("model.layers.0.block_sparse_moe.experts.2.w1", "model.layers.0.mlp.experts.2.gate_proj"),
        ("model.layers.0.mlp.switch_mlp.up_proj", "model.layers.0.mlp.experts.up_proj"),
        ("model.layers.0.mlp.router", "model.layers.0.mlp.gate"),
        ("lm_head", "lm_head"),
    ],
)
def test_families_spell_the_same_module_differently(name: str, canonical: str) -> None:
    """Prefixes, Mixtral's and Llama 4's words, MLX's experts."""
    assert canonical_name(name) == canonical
    assert canonical_name(canonical) == canonical


def experts(scheme: str, *, fused: bool, lost: int = 0) -> Checkpoint:
    """One layer of four experts, fused or one by one."""
    if fused:
        made = [module("model.layers.0.mlp.experts.gate_up_proj", ModuleKind.LINEAR, (4, 512, 512), scheme)]
        made.append(module("model.layers.0.mlp.experts.down_proj", ModuleKind.LINEAR, (4, 256, 512), scheme))
    else:
        made = [
            module(f"model.layers.0.mlp.experts.{e}.{part}", ModuleKind.LINEAR, shape, scheme, declared=None)
            for e in range(4 - lost)
            for part, shape in (("gate_proj", (256, 512)), ("up_proj", (256, 512)), ("down_proj", (512, 256)))
        ]
    return checkpoint(scheme, modules=tuple(made), subject="x")


@pytest.mark.parametrize("fused_source", [True, False])
def test_fused_and_split_experts_are_the_same(fused_source: bool) -> None:
    """Whichever side is finer, both are compared expert by expert."""
    found = align(experts("BF16", fused=fused_source), experts("FP8", fused=not fused_source))
    assert len(found.source.modules) == 12
    assert set(found.modules) == {m.name for m in found.source.modules}
    assert {m.scheme for m in found.modules.values()} == {"FP8"}
    assert len(found.notes) == 1


def test_a_lost_expert_does_not_fit() -> None:
    """Three experts are not four: they stay invented and the fused ones lost."""
    found = align(experts("BF16", fused=True), experts("FP8", fused=False, lost=1))
    assert not {m.name for m in found.source.modules} & set(found.modules)


NAMES = st.lists(
    st.sampled_from(
        ["q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "experts.0.w1"]
    ),
    unique=True,
)


@given(NAMES, NAMES)
def test_alignment_neither_loses_nor_invents_weights(ours: list[str], theirs: list[str]) -> None:
    """All modules of both sides are still there, under some name."""

    def made(names: list[str]) -> Checkpoint:
        found = tuple(module(f"model.layers.0.x.{n}", ModuleKind.LINEAR, (64, 64)) for n in names)
        return Checkpoint(subject="x", format="safetensors", weight_bytes=1, modules=found)

    found = align(made(ours), made(theirs))
    names = [m.name for m in found.source.modules]
    assert len(names) == len(set(names))
    assert len(set(names) - set(found.modules)) <= len(ours)
    assert len(set(found.modules) - set(names)) <= len(theirs)


def test_names_that_nobody_knows_cannot_be_judged() -> None:
    """A GGUF of an unmapped architecture is ERROR: neither a pass nor a failure of the candidate."""
    candidate = checkpoint(
        "Q8_0", facts={"notes": ["3 tensors have names of llama.cpp that are not known here: x"]}
    )
    verdict = CheckpointGate().judge({"source.checkpoint": checkpoint(), "candidate.checkpoint": candidate})
    assert verdict.status is Status.ERROR


def test_a_cast_of_some_modules_between_16_bit_types_is_refused() -> None:
    """Toolkits cast all or none: one module of another type has bytes that are read wrongly."""

    def change(m: Module) -> Module:
        return m.model_copy(update={"scheme": "F16"}) if m.name == "model.norm" else m

    gate = CheckpointGate(CheckpointPolicy(recipe="W8A8"))
    verdict = gate.judge(
        {"source.checkpoint": checkpoint(), "candidate.checkpoint": checkpoint("INT8", change)}
    )
    assert any("others stayed BF16" in r.text for r in verdict.reasons if not r.ok)


def test_a_recipe_can_be_asked_for_without_a_source() -> None:
    """`assay inspect --recipe` names what is not as promised."""
    reasons = [f.reason for f in intrinsic(checkpoint("INT8"), "nvfp4")]
    assert any("0 of 21 modules are" in r.text for r in reasons if not r.ok)
    with pytest.raises(ValueError, match="unknown recipe"):
        intrinsic(checkpoint("INT8"), "no-such-recipe")
