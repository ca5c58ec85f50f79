"""What a recipe promises: which modules end in which precision, and which stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from pydantic import Field, ValidationError

from assay.core.base import Noun
from assay.core.checkpoint import Module, ModuleKind

FROM_DECLARATION = "from-declaration"
NONE = "none"
QUANTIZABLE = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})
FLOATS = frozenset({"BF16", "F16", "F32", "F64"})
PROTECTED = (
    "*router*",
    "*.mlp.gate",
    "*shared_expert_gate",
    "*block_sparse_moe.gate",
    "*visual.*",
    "*vision_tower*",
    "*vision_model*",
    "*embed_vision*",
    "*audio_tower*",
    "*multi_modal_projector*",
    "*mm_projector*",
)
"""Modules that break a model when they are quantized by a recipe for all linears: routers and towers (MMMU-Pro fell
from 63.7 to 0). They must stay as they are unless the promise says `protect: []`."""
LEFT_ALONE = (
    "*linear_attn.in_proj_a",
    "*linear_attn.in_proj_b",
    "*linear_attn.in_proj_ba",
    "*conv1d*",
    "mtp.*",
    "*.mtp.*",
    "*.eh_proj",
    "*.indexer.weights_proj",
)
"""Modules that some toolkits quantize and others leave alone: either is fine under any recipe."""
_TOWERS = tuple(p for p in PROTECTED if p.startswith(("*v", "*emb", "*aud", "*mul", "*mm")))
_MLP = ("*.mlp.*", "*.experts.*", "*.experts", "*block_sparse_moe*", "*.mixer.up_proj", "*.mixer.down_proj")
_EXPERTS = ("*.experts.*", "*block_sparse_moe.experts*", "*.experts")


class Intent(Noun):
    """The promise of a change, module by module."""

    recipe: str = ""
    """Name for messages."""
    schemes: tuple[str, ...] = ()
    """Buckets that targeted modules may end in, the aim first; empty = nothing is quantized."""
    targets: tuple[str, ...] = ("Linear",)
    """Module names, shell wildcards, `re:` patterns, or the class name `Linear`."""
    ignore: tuple[str, ...] = ("lm_head",)
    """Targets that must stay as they are."""
    optional: tuple[str, ...] = LEFT_ALONE
    """Targets that may stay as they are."""
    protect: tuple[str, ...] = PROTECTED
    """Modules that must stay as they are though a target covers them."""
    group_size: int | None = Field(default=None, gt=0)
    """Weights per scale; None = as the checkpoint has it."""
    free_kinds: tuple[ModuleKind, ...] = ()
    """Kinds that the toolkit chooses a precision for, as llama.cpp does for head and embedding."""
    may_cast: bool = True
    """Unquantized modules may change their float type: toolkits load a float32 source in bfloat16."""
    from_declaration: bool = False
    """Judge the checkpoint against its own declaration."""

    def wants(self, module: Module) -> tuple[str, ...] | None:
        """The buckets a module of the source must end in; () = must stay; None = either is fine."""
        if module.kind in self.free_kinds:
            return None
        targeted = self.schemes and module.kind in QUANTIZABLE and matches(self.targets, module)
        if not targeted or matches(self.ignore, module) or matches(self.protect, module):
            return ()
        return None if matches(self.optional, module) else self.schemes


def matches(patterns: tuple[str, ...], module: Module) -> bool:
    """Whether a pattern names the module: by class, exactly, by last component, by wildcard or by `re:`."""
    return any(_match(p, module) for p in patterns)


def _match(pattern: str, module: Module) -> bool:
    if pattern == "Linear":
        return module.kind in QUANTIZABLE
    if pattern.startswith("re:"):
        compiled = _compiled(pattern[3:])
        return compiled is not None and compiled.match(module.name) is not None
    name = module.name
    return name == pattern or name.endswith("." + pattern) or fnmatchcase(name, pattern)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _one(scheme: str, **more: Any) -> Intent:
    return Intent(schemes=(scheme,), **more)


def _gguf(*schemes: str) -> Intent:
    free = (ModuleKind.HEAD, ModuleKind.EMBEDDING)
    return Intent(schemes=schemes, ignore=(), free_kinds=free)


def _mix(aim: str) -> Intent:
    """A K or IQ mixture: some tensors get more bits, rows that the block does not divide fall back."""
    fallbacks = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")
    richer = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ3_S", "IQ4_XS")
    more = richer[richer.index(aim) + 1 :] if aim in richer[:5] else ("Q4_K", "Q5_K", "Q6_K")
    return _gguf(aim, *(s for s in (*more, *fallbacks) if s != aim))


def _presets() -> dict[str, Intent]:
    table: dict[str, Intent] = {}
    for bits in range(2, 9):
        table |= {f"w{bits}a{a}": _one(f"INT{bits}") for a in (4, 8, 16)}
    table |= {"w4a16_asym": _one("INT4"), "w4afp8": _one("INT4"), "int8": _one("INT8"), "int4": _one("INT4")}
    table |= {n: _one("FP8") for n in ("fp8", "fp8_dynamic", "fp8_block", "fp8_per_channel_per_token")}
    table |= {n: _one("FP8") for n in ("fp8_2d_blockwise_weight_only", "fp8_pb_wo", "fp8_pb_real")}
    table |= {
        n: _one("NVFP4") for n in ("nvfp4", "nvfp4a16", "w4a16_nvfp4", "nvfp4_svdquant", "w4a8_nvfp4_fp8")
    }
    table |= {n: _one("NVFP4") for n in ("nvfp4_awq_lite", "nvfp4_awq_clip", "nvfp4_awq_full", "nvfp4_awq")}
    table |= {
        "nvfp4_mlp_only": _one("NVFP4", targets=_MLP),
        "nvfp4_mlp_weight_only": _one("NVFP4", targets=_MLP),
        "nvfp4_experts_only": _one("NVFP4", targets=_EXPERTS),
        "nvfp4_omlp_only": _one("NVFP4", targets=(*_MLP, "*.o_proj")),
    }
    table |= {n: _one("MXFP4") for n in ("mxfp4", "mxfp4a16", "w4a8_mxfp4_fp8")}
    table["mxfp4_mlp_weight_only"] = _one("MXFP4", targets=_MLP)
    table |= {n: _one("MXFP8") for n in ("mxfp8", "mxfp8a16")}
    table |= {
        n: _one("INT4")
        for n in ("int4_awq", "int4_blockwise_weight_only", "w4a8_awq_beta", "w4a16_awq", "w4a8_awq")
    }
    table |= {
        n: _one("INT8") for n in ("int8_smoothquant", "int8_weight_only", "int8_wo", "w8a8_sq_per_channel")
    }
    table |= {
        "nf4": _one("NF4"),
        "bnb_nf4": _one("NF4"),
        "fp4": _one("FP4"),
        "bnb_fp4": _one("FP4"),
        "bnb_int8": _one("INT8"),
    }
    table |= {
        n.lower(): _gguf(n)
        for n in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "Q1_0", "IQ4_NL")
    }
    table["mxfp4_moe"] = _gguf("MXFP4", "Q8_0")
    table |= {
        n.lower(): _mix(n[:4])
        for n in ("Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M")
    }
    table["q6_k"] = _gguf("Q6_K", "Q8_0")
    table |= {
        n.lower(): _mix(n)
        for n in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS")
    }
    table |= _hub()
    table |= {"f16": Intent(), "bf16": Intent(), "f32": Intent()}
    table |= {
        n: Intent(may_cast=False) for n in (NONE, "identity", "finetune", "fine-tune", "merge", "unquantized")
    }
    table[FROM_DECLARATION] = Intent(from_declaration=True)
    return {name: intent.model_copy(update={"recipe": name}) for name, intent in table.items()}


def _hub() -> dict[str, Intent]:
    """Recipes of the toolkits that publish on model hubs."""
    table: dict[str, Intent] = {}
    for bits in (2, 3, 4, 8):
        scheme = f"INT{bits}"
        table |= {n: _one(scheme) for n in (f"gptq_int{bits}", f"hqq_{bits}bit", f"quanto_int{bits}")}
    # MLX converts embedding and head like any linear, and routers with more bits than the rest.
    routers = tuple(p for p in PROTECTED if p not in _TOWERS)
    mlx = Intent(
        ignore=(),
        free_kinds=(ModuleKind.HEAD, ModuleKind.EMBEDDING),
        protect=_TOWERS,
        optional=(*LEFT_ALONE, *routers),
    )
    aims = {f"{bits}bit": f"INT{bits}" for bits in (2, 3, 4, 5, 6, 8)}
    aims |= {"mxfp4": "MXFP4", "nvfp4": "NVFP4", "mxfp8": "MXFP8"}
    table |= {f"mlx_{name}": mlx.model_copy(update={"schemes": (aim,)}) for name, aim in aims.items()}
    table |= {"awq": _one("INT4"), "gptq": _one("INT4"), "autoround": _one("INT4"), "quanto_fp8": _one("FP8")}
    table |= {"fp8_hub": _one("FP8"), "deepseek_fp8": _one("FP8"), "fbgemm_fp8": _one("FP8")}
    table["mxfp4_hub"] = _one("MXFP4", targets=_EXPERTS)
    table["nvfp4_fp8_mha"] = _one("NVFP4")
    table["nvfp4_four_over_six"] = _one("NVFP4")
    table |= {f"nvfp4_w4a4_weight_{n}": _one("NVFP4") for n in ("local_hessian", "mse_fp8_sweep")}
    table |= {
        f"mamba_moe_fp8_{n}": _one("FP8", optional=(*LEFT_ALONE, "*")) for n in ("aggressive", "conservative")
    }
    table |= {
        f"mamba_moe_nvfp4_{n}": Intent(schemes=("NVFP4", "FP8"), optional=(*LEFT_ALONE, "*"))
        for n in ("aggressive", "conservative")
    }
    return table


RECIPES: Mapping[str, Intent] = _presets()
"""Recipe name, lower case → promise; from ModelOpt, PRESET_SCHEMES of compressed-tensors, llama.cpp."""
BUCKETS = frozenset(s for i in RECIPES.values() for s in i.schemes)
_KEYS = frozenset(
    {
        "recipe", "scheme", "schemes", "targets", "ignore", "group_size", "num_bits", "bits", "weight_type",
        "optional", "protect",
    }
)  # fmt: skip
_LISTS = ("targets", "ignore", "group_size", "schemes", "optional", "protect")
_IGNORED_KEYS = frozenset({"engine", "activation", "strategy", "symmetric", "note", "toolkit"})


def by_name(name: str, more: Mapping[str, Mapping[str, Any]] | None = None) -> Intent | None:
    """The recipe of that name, or the bucket of that name; case-blind, `-` as `_`.

    Args:
        name: as the user writes it.
        more: recipes of the user, which win over the table: name → promise.

    Raises:
        ValueError: if the user's own recipe of that name is not understood.
    """
    own = next((v for k, v in (more or {}).items() if k.strip().lower() == name.strip().lower()), None)
    if own is not None:
        # A user's recipe may build on one of the table, never on another of the user's.
        return resolve(own).model_copy(update={"recipe": name.strip()})
    word = name.strip().lower()
    spellings: tuple[str, ...] = (word, word.replace("-", "_"))
    # ModelOpt's own spelling: NVFP4_DEFAULT_CFG, INT4_AWQ_CFG.
    spellings += tuple(re.sub(r"(_default)?_cfg$", "", s) for s in spellings)
    found = next((RECIPES[s] for s in spellings if s in RECIPES), None)
    if found is None and name.strip().upper() in BUCKETS:
        return Intent(recipe=name, schemes=(name.strip().upper(),))
    return found


def _bits_scheme(bits: int, kind: str) -> tuple[str, ...]:
    if kind != "float":
        return (f"INT{bits}",)
    return ("FP8", "MXFP8") if bits == 8 else ("NVFP4", "MXFP4")


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()


def resolve(promise: Mapping[str, Any], more: Mapping[str, Mapping[str, Any]] | None = None) -> Intent:
    """An intent from a candidate's `intent` or a policy's.

    Keys: `recipe` or `scheme` (a name of the table or a bucket), or `num_bits` with `weight_type`;
    `targets`, `ignore`, `group_size`, `optional`, `protect` replace the recipe's own.

    Args:
        promise: the keys.
        more: recipes of the user beside the table's: name → promise.

    Raises:
        ValueError: saying which key or value is not understood.
    """
    unknown = sorted(set(promise) - _KEYS - _IGNORED_KEYS)
    if unknown:
        raise ValueError(f"intent has unknown keys {unknown}; allowed: {sorted(_KEYS)}")
    name = promise.get("recipe") or promise.get("scheme")
    bits = promise.get("num_bits", promise.get("bits"))
    if isinstance(name, str):
        base = by_name(name, more)
        if base is None:
            known = {**RECIPES, **(more or {})}
            close = get_close_matches(name.lower(), known, n=5, cutoff=0.5) or ("w4a16", "fp8", "q4_0")
            raise ValueError(f"unknown recipe {name!r}; known are {len(known)}, such as {', '.join(close)}")
    elif isinstance(bits, int) and not isinstance(bits, bool):
        kind = promise.get("weight_type") or "int"
        base = Intent(recipe=f"{kind}{bits}", schemes=_bits_scheme(bits, str(kind)))
    elif promise.get("schemes"):
        base = Intent(recipe="schemes")
    else:
        raise ValueError("intent names no recipe, scheme or num_bits")
    changes = {k: promise[k] for k in _LISTS if promise.get(k) is not None}
    odd = sorted(str(s) for s in _listed(changes.get("schemes")) if s not in BUCKETS | FLOATS)
    if odd:
        close = get_close_matches(odd[0].upper(), BUCKETS, n=5, cutoff=0.4) or sorted(BUCKETS)[:5]
        raise ValueError(
            f"intent.schemes: no precision is called {odd[0][:60]!r}; such as {', '.join(close)}"
        )
    if isinstance(name, str) and isinstance(bits, int) and not isinstance(bits, bool) and base.schemes:
        kind = promise.get("weight_type") or ("int" if base.schemes[0].startswith("INT") else "float")
        changes["schemes"] = _bits_scheme(bits, str(kind))
    if base.from_declaration or not (base.schemes or changes.get("schemes")):
        # Nothing is aimed at: what a toolkit lists as left alone says nothing more.
        changes = {k: v for k, v in changes.items() if k == "schemes"}
    try:
        return Intent.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"intent.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
