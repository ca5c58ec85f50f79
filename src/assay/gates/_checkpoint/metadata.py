"""Metadata that must survive a release, and the differences that are expected. The rules are data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from assay.core.checkpoint import Checkpoint
from assay.gates._checkpoint.findings import Finding, bad, good

BLOCK = frozenset(
    {
        "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size",
        "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers", "layer_types",
        "sliding_window", "max_position_embeddings", "tie_word_embeddings", "eos_token_id", "bos_token_id",
        "pad_token_id", "num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts",
        "num_experts_per_tok", "num_nextn_predict_layers", "hidden_act", "rms_norm_eps", "layer_norm_epsilon",
        "attention_bias", "mlp_bias", "auto_map", "rope", "partial_rotary_factor", "text_config", "vision_config",
        "audio_config", "layer_norm_eps", "norm_eps", "rotary_dim", "attn_logit_softcapping", "final_logit_softcapping",
        "first_k_dense_replace", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
        "n_group", "topk_group", "routed_scaling_factor", "scoring_func", "norm_topk_prob", "decoder_sparse_step",
        "mlp_only_layers", "full_attention_interval", "linear_num_key_heads", "linear_num_value_heads",
        "use_sliding_window", "max_window_layers", "image_token_id", "video_token_id",
    }
)  # fmt: skip
"""config.json: a changed or lost value makes another model."""
EXPECTED = frozenset(
    {
        "_name_or_path",
        "transformers_version",
        "use_cache",
        "initializer_range",
        "pretraining_tp",
        "_attn_implementation",
    }
)
"""config.json: no bearing on what the model computes."""
GENERATION_BLOCK = frozenset(
    {
        "eos_token_id",
        "bos_token_id",
        "pad_token_id",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "max_new_tokens",
    }
)
GENERATION_EXPECTED = frozenset({"transformers_version", "_from_model_config"})
TOKENIZER_BLOCK = frozenset(
    {"bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token", "add_eos_token", "model_max_length",
     "add_prefix_space", "legacy", "clean_up_tokenization_spaces", "split_special_tokens"}
)  # fmt: skip
TOKENIZER_EXPECTED = frozenset(
    {"name_or_path", "padding_side", "backend", "added_tokens_decoder", "special_tokens_map_file", "model_input_names",
     "processor_class"}
)  # fmt: skip
TOKENIZER_LEAKS = frozenset(
    {"is_local", "local_files_only", "max_length", "truncation", "truncation_side", "stride"}
)
"""tokenizer_config.json: arguments of a call that were saved with the tokenizer."""
_ABSENT = "absent"
_LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\.")


def check(
    source: Checkpoint, candidate: Checkpoint, severity: str, accepted: tuple[str, ...] = ()
) -> list[Finding]:
    """Every difference that matters, as a refusal or a note.

    Args:
        source: its metadata is what must survive.
        candidate: a GGUF says only part of it; what it does not say is not compared.
        severity: `block` refuses what changes the model, `warn` only notes it.
        accepted: `file:key` patterns of differences that are meant: they are noted.
    """
    ours, theirs = source.metadata, candidate.metadata
    partial = theirs.get("partial") is True or ours.get("partial") is True
    findings = _fields("config.json", _config(ours), _config(theirs), BLOCK, EXPECTED, partial=partial)
    findings += _chat_template(ours, theirs)
    if not partial:
        findings += _generation(ours, theirs)
        findings += _tokenizer_json(_block(ours, "tokenizer"), _block(theirs, "tokenizer"))
        findings += _tokenizer_config(_block(ours, "tokenizer_config"), _block(theirs, "tokenizer_config"))
        findings += _files(_block(ours, "files"), _block(theirs, "files"))
    findings += consistency(candidate, source)
    findings = [
        _noted(f) if severity == "warn" or any(fnmatchcase(f.reason.where, p) for p in accepted) else f
        for f in findings
    ]
    return findings or [good("tokenizer, chat template, generation settings and config survived")]


def consistency(candidate: Checkpoint, source: Checkpoint | None = None) -> list[Finding]:
    """What a checkpoint's own metadata contradicts.

    Args:
        candidate: its config.
        source: what its source contradicts as well is no fault of the candidate, and is noted.
    """
    findings = []
    for name, config in _parts(_block(candidate.metadata, "config")):
        types, depth = config.get("layer_types"), config.get("num_hidden_layers")
        if not isinstance(types, list | tuple) or not isinstance(depth, int) or len(types) == depth:
            continue
        where = f"config.json:{name}layer_types"
        text = f"config.json: {name}layer_types has {len(types)} entries for {depth} layers"
        same = source is not None and any(
            n == name and c.get("layer_types") == types for n, c in _parts(_block(source.metadata, "config"))
        )
        findings.append(
            good(f"note: {text}, as in the source", where=where)
            if same
            else bad(text, where=where, measured=len(types), limit=depth, unit="layers")
        )
    stored = {int(m[1]) for n in candidate.modules if (m := _LAYER.match(n.name))}
    depth = _block(candidate.metadata, "config").get("num_hidden_layers")
    if stored and isinstance(depth, int) and not isinstance(depth, bool) and 0 < depth < 2**20:
        lost = sorted(set(range(depth)) - stored)
        if lost:
            text = f"config.json promises {depth} layers, {len(lost)} of them hold no weights: {lost[:3]}"
            findings.append(
                bad(text, where="config.json:num_hidden_layers", measured=depth - len(lost), limit=depth)
            )
    return findings


def _noted(finding: Finding) -> Finding:
    text = finding.reason.text
    return good(text if text.startswith("note: ") else f"note: {text}", where=finding.reason.where)


def _parts(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """A config and the configs inside it, with their prefixes."""
    inner = [
        (f"{key}.", value)
        for key, value in sorted(config.items())
        if key.endswith("_config") and isinstance(value, Mapping)
    ]
    return [("", config), *inner]


def _fields(
    file: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    block: frozenset[str],
    expected: frozenset[str],
    *,
    partial: bool = False,
) -> list[Finding]:
    findings = []
    for key in sorted(set(ours) | set(theirs)):
        old, new = ours.get(key), theirs.get(key)
        if key in expected or _same(old, new) or (partial and (key not in theirs or key not in ours)):
            continue
        if key.endswith("_config") and isinstance(old, Mapping) and isinstance(new, Mapping):
            findings += _fields(
                f"{file}: {key}", _spelled(old), _spelled(new), block, expected, partial=partial
            )
            continue
        text = f"{file}: {key} is {_shown(new)}, the source has {_shown(old)}"
        if isinstance(old, list | tuple) and not isinstance(new, list | tuple) and key.endswith("_token_id"):
            text += ": the list was lost, generation will not stop where it must"
        numbers: dict[str, Any] = {
            "where": f"{file}:{key}".replace(": ", ":"),
            "measured": _shown(new),
            "limit": _shown(old),
        }
        # What the source leaves to a default and the export writes out cannot be told from a change by files alone.
        findings.append(
            bad(text, **numbers) if key in block and old is not None else good(f"note: {text}", **numbers)
        )
    return findings


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, int | float) and isinstance(new, int | float):
        return bool(abs(old - new) <= 1e-6 * max(abs(old), abs(new)))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        skip = {"transformers_version", "_name_or_path", "dtype", "torch_dtype"}
        keys = (set(old) | set(new)) - skip
        return all(_same(old.get(k), new.get(k)) for k in keys)
    return bool(old == new)


def _config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with what transformers 4 and 5 spell differently brought to one spelling."""
    return _spelled(_block(metadata, "config"))


def _spelled(found: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(found)
    dtype = config.pop("torch_dtype", None) or config.pop("dtype", None)
    if isinstance(dtype, str):
        config["dtype"] = dtype.removeprefix("torch.")
    rope = _rope(config)
    if rope:
        config["rope"] = rope
    if config.get("head_dim") is None:
        width, heads = config.get("hidden_size"), config.get("num_attention_heads")
        if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads == 0:
            config["head_dim"] = width // heads
    return config


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    theta = config.pop("rope_theta", None)
    blocks = [config.pop(key, None) for key in ("rope_scaling", "rope_parameters")]
    rope: dict[str, Any] = {}
    for block in blocks:
        if isinstance(block, Mapping):
            rope |= {("rope_type" if k == "type" else k): v for k, v in block.items() if v is not None}
    if theta is not None:
        rope.setdefault("rope_theta", theta)
    if rope.get("rope_type") == "default":
        del rope["rope_type"]
    return rope


def _generation(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Finding]:
    old, new = _block(ours, "generation_config"), dict(_block(theirs, "generation_config"))
    if old and not new:
        return [bad("generation_config.json is missing", where="generation_config.json")]
    if (
        old.get("do_sample") is not True
        and new.get("do_sample") is True
        and ({"top_k", "top_p", "temperature"} & set(old))
    ):
        new["do_sample"] = old.get("do_sample")  # transformers refuses to save the combination and sets it
    return _fields("generation_config.json", old, new, GENERATION_BLOCK, GENERATION_EXPECTED)


def _chat_template(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Finding]:
    old, new = _block(ours, "chat_template"), _block(theirs, "chat_template")
    if old.get("digest") == new.get("digest"):
        return []
    if not old:
        return [good("note: the candidate has a chat template, the source has none", where="chat_template")]
    what = "changed" if new else "is missing"
    return [bad(f"the chat template {what}", where=str(new.get("where") or old.get("where")))]


def _tokenizer_json(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Finding]:
    if not old:
        return []
    if not new:
        return [bad("tokenizer.json is missing", where="tokenizer.json")]
    findings = []
    if old.get("digest") != new.get("digest"):
        findings.append(
            bad("tokenizer.json: vocabulary, merges or special tokens changed", where="tokenizer.json")
        )
    for key in ("truncation", "padding"):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        where = f"tokenizer.json:{key}"
        if now is None:
            findings.append(good(f"note: tokenizer.json: the source's {key} block was removed", where=where))
            continue
        shown = _leak(key, was, now)
        text = f"calibration leaked into tokenizer.json: {shown}"
        findings.append(bad(text, where=where, measured=_shown(now), limit=_shown(was)))
    return findings


def _leak(key: str, was: Any, now: Any) -> str:
    """The field that says most: the length, or what differs."""
    if not isinstance(now, Mapping):
        return f"{key}={_shown(now)}"
    if "max_length" in now:
        return f"{key}.max_length={_shown(now['max_length'])}"
    before = was if isinstance(was, Mapping) else {}
    changed = {k: v for k, v in now.items() if before.get(k) != v}
    return (
        ", ".join(f"{key}.{k}={_shown(v)}" for k, v in sorted(changed.items())[:3]) or f"{key}={_shown(now)}"
    )


def _tokenizer_config(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Finding]:
    if old and not new:
        return [bad("tokenizer_config.json is missing", where="tokenizer_config.json")]
    leaked = sorted(
        k for k in TOKENIZER_LEAKS & set(new) if new[k] is not None and not _same(old.get(k), new[k])
    )
    kept = {k: v for k, v in new.items() if k not in TOKENIZER_LEAKS}
    was = {k: v for k, v in old.items() if k not in TOKENIZER_LEAKS}
    findings = _fields("tokenizer_config.json", was, kept, TOKENIZER_BLOCK, TOKENIZER_EXPECTED)
    if (
        kept.get("tokenizer_class") == "TokenizersBackend"
        and was.get("tokenizer_class") != "TokenizersBackend"
    ):
        text = "note: tokenizer_class was rewritten to TokenizersBackend: transformers 4 cannot load it"
        findings.append(good(text, where="tokenizer_config.json:tokenizer_class"))
    for key in leaked:
        text = f"calibration leaked into tokenizer_config.json: {key}={_shown(new[key])}"
        where = f"tokenizer_config.json:{key}"
        harmless = key in {"is_local", "local_files_only"}
        findings.append(good(f"note: {text}", where=where) if harmless else bad(text, where=where))
    return findings


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Finding]:
    findings = [
        bad(f"{name} is code that the source does not have", where=name)
        for name in sorted(set(new) - set(old))
        if name.endswith(".py")
    ]
    for name in sorted(old):
        if name not in new and name in {"special_tokens_map.json", "added_tokens.json"}:
            # transformers 5 keeps their content in tokenizer_config.json, which is compared.
            findings.append(good(f"note: {name} is no longer a file of its own", where=name))
        elif name not in new:
            findings.append(bad(f"{name} is missing", where=name))
        elif old[name] != new[name]:
            findings.append(bad(f"{name} changed", where=name, measured=new[name], limit=old[name]))
    return findings


def _block(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = metadata.get(key)
    return value if isinstance(value, Mapping) else {}


def _shown(value: Any) -> str:
    text = _ABSENT if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else text[:117] + "..."
