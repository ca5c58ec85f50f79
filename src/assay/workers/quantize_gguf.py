"""Worker: a Hugging Face checkpoint of the Llama architecture into one GGUF file; `gguf` and numpy only.

The source is either plain (BF16, F16, F32), written in any type that `gguf` can quantize to, or a
weight-only compressed-tensors checkpoint. The latter is dequantized to exactly the numbers that transformers
would use, so that llama.cpp serves the values on disk; a scheme that quantizes activations is refused.
"""

# ruff: noqa: PLC0415  (a vendor is imported where it is used: --probe must cost milliseconds)

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _job

# The types that gguf.quants can write; K-quants and IQ are read-only in Python.
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ1_0", "TQ2_0", "MXFP4")
FLOAT_TYPES = ("F32", "F16", "BF16")
# GGUF's "llama" architecture; the same tensors, so the same graph.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
# Regular expressions of Split pre-tokenizers by the name that llama.cpp knows them under.
SPLIT_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "qwen2",
}


def run(job: _job.Job) -> None:
    """Write ``options["file_name"]`` and the tokenizer files into ``job.staging``.

    Raises:
        JobError: MODEL_UNSUPPORTED for another architecture, tokenizer or scheme; USER_CONFIG_ERROR for a
            type that would quantize twice.
    """
    import gguf

    config = _job.read_json(job.source / "config.json")
    _check_architecture(config)
    name = job.options["file_name"]
    if Path(name).name != name or not name.endswith(".gguf"):
        raise _job.JobError(
            f'file_name must be a plain name that ends in ".gguf", not {name!r}', _job.USER_CONFIG_ERROR
        )
    job.emit(0.05, "reading the tokenizer")
    writer = gguf.GGUFWriter(job.staging / name, "llama")
    _add_hyperparameters(writer, config, job.source, job.options["type"])
    _add_tokenizer(writer, job, int(config["vocab_size"]))
    _add_rope(writer, config)
    worst = 0.0
    tensors = list(_source_tensors(job, config))
    for index, (target, read) in enumerate(tensors):
        job.emit(0.1 + 0.8 * index / len(tensors), target)
        worst = max(worst, _add_tensor(writer, job, target, read()))
    job.emit(0.9, "writing")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    job.extra["largest_weight_change"] = worst
    job.notes.append(
        f"wrote {len(tensors)} tensors; the largest change of a weight by the GGUF types is {worst:.3g}"
    )
    _job.copy_companions(job)


def _check_architecture(config: Mapping[str, Any]) -> None:
    names = config.get("architectures") or []
    if not any(name in ARCHITECTURES for name in names):
        message = f"architecture {names} is not handled; known: {', '.join(ARCHITECTURES)}"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    if config.get("hidden_act", "silu") != "silu":
        message = f"hidden_act {config['hidden_act']!r}: GGUF's llama architecture computes silu"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    if config.get("sliding_window"):
        message = "sliding_window attention is not part of GGUF's llama architecture"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)


def _heads(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """(attention heads, key/value heads, dimension of a head)."""
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    return heads, kv_heads, int(config.get("head_dim") or config["hidden_size"] // heads)


def _add_hyperparameters(writer: Any, config: Mapping[str, Any], source: Path, kind: str) -> None:
    import gguf

    heads, kv_heads, head_dim = _heads(config)
    writer.add_name(source.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    file_type = "ALL_F32" if kind == "F32" else "MOSTLY_MXFP4_MOE" if kind == "MXFP4" else f"MOSTLY_{kind}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings: rope_parameters in transformers 5, rope_theta and rope_scaling before."""
    old = {"rope_theta": config.get("rope_theta", 10000.0), **(config.get("rope_scaling") or {})}
    rope = {**old, **(config.get("rope_parameters") or {})}
    return {**rope, "rope_type": rope.get("rope_type") or rope.get("type") or "default"}


def _add_rope(writer: Any, config: Mapping[str, Any]) -> None:
    import gguf
    import numpy as np

    rope = _rope(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope["rope_type"] == "llama3":
        factors = np.array(llama3_rope_factors(rope, _heads(config)[2]), np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    elif rope["rope_type"] != "default":
        raise _job.JobError(f"rope_type {rope['rope_type']!r} is not handled", _job.MODEL_UNSUPPORTED)


def llama3_rope_factors(rope: Mapping[str, Any], head_dim: int) -> list[float]:
    """By how much llama.cpp divides each rotary frequency (transformers' _compute_llama3_parameters).

    Args:
        rope: rope_theta, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings.
        head_dim: Dimension of a head; one factor for each pair.
    """
    context = rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    factors = []
    for index in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / head_dim)
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(float(factor))
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _add_tokenizer(writer: Any, job: _job.Job, vocab_size: int) -> None:
    import gguf

    tokenizer = _job.read_json(job.source / "tokenizer.json")
    model = tokenizer["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        message = f"tokenizer model {model.get('type')!r} is not handled: byte-level BPE only"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    by_id = {index: text for text, index in model["vocab"].items()}
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or []}
    texts, kinds = [], []
    for index in range(vocab_size):
        entry = added.get(index)
        texts.append(entry["content"] if entry else by_id.get(index, f"[PAD{index}]"))
        if entry:
            kinds.append(gguf.TokenType.CONTROL if entry["special"] else gguf.TokenType.USER_DEFINED)
        else:
            kinds.append(gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    wanted = job.options["pre_tokenizer"]
    pre_tokenizer = pre_tokenizer_name(tokenizer.get("pre_tokenizer")) if wanted == "auto" else wanted
    writer.add_tokenizer_pre(pre_tokenizer)
    job.notes.append(f"llama.cpp pre-tokenizer: {pre_tokenizer}")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    _add_special_tokens(writer, job.source, tokenizer, {entry["content"]: i for i, entry in added.items()})
    template = job.source / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def pre_tokenizer_name(spec: Mapping[str, Any] | None) -> str:
    """The name that llama.cpp has for a pre-tokenizer of tokenizer.json.

    Raises:
        JobError: MODEL_UNSUPPORTED when it is none of those known: a wrong one silently splits differently.
    """
    parts = (spec or {}).get("pretokenizers") or ([spec] if spec else [])
    last = parts[-1] if parts else {}
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        before = parts[:-1]
        by_regex = last.get("use_regex", True)
        if not before and by_regex:
            return "gpt-2"
        if len(before) == 1 and by_regex and before[0] == {"type": "Digits", "individual_digits": True}:
            return "smollm"
        if len(before) == 1 and not by_regex and before[0].get("type") == "Split":
            found = SPLIT_PATTERNS.get((before[0].get("pattern") or {}).get("Regex", ""))
            if found:
                return found
    message = f"pre-tokenizer {spec!r} is not known to be one of llama.cpp's; set option pre_tokenizer"
    raise _job.JobError(message, _job.MODEL_UNSUPPORTED)


def _add_special_tokens(
    writer: Any, source: Path, tokenizer: Mapping[str, Any], ids: Mapping[str, int]
) -> None:
    path = source / "tokenizer_config.json"
    settings = _job.read_json(path) if path.is_file() else {}
    config = _job.read_json(source / "config.json")
    for role in ("bos", "eos", "pad", "unk"):
        named = settings.get(f"{role}_token")
        text = named.get("content") if isinstance(named, dict) else named
        index = ids.get(text) if isinstance(text, str) else None
        if index is None and isinstance(config.get(f"{role}_token_id"), int):
            index = config[f"{role}_token_id"]
        if index is not None:
            getattr(writer, f"add_{role}_token_id")(index)
    writer.add_add_bos_token(_puts_first(tokenizer, settings))
    writer.add_add_eos_token(bool(settings.get("add_eos_token", False)))


def _puts_first(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether encoding begins with a special token: the tokenizer's template says, else its config."""
    processor = tokenizer.get("post_processor") or {}
    for part in processor.get("processors") or [processor]:
        if part.get("type") == "TemplateProcessing" and part.get("single"):
            return "SpecialToken" in part["single"][0]
    return bool(settings.get("add_bos_token", False))


def _source_tensors(job: _job.Job, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (GGUF name, function that reads the float32 values); every tensor has to find its place.

    Raises:
        JobError: MODEL_UNSUPPORTED for a tensor that the architecture does not have, or one that is missing.
    """
    import gguf

    if TYPE_CHECKING or __package__:
        from . import _tensors
    else:
        import _tensors

    heads, kv_heads, _ = _heads(config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    tied = bool(config.get("tie_word_embeddings"))
    expected = _expected_names(config)
    readers = _readers(job, config, _tensors.Checkpoint(job.source))
    if missing := sorted(expected - set(readers)):
        raise _job.JobError(
            f"the checkpoint has no {missing[:5]} ({len(missing)} missing)", _job.MODEL_UNSUPPORTED
        )
    for name, read in readers.items():
        if (tied and name == "lm_head.weight") or name.endswith("rotary_emb.inv_freq"):
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise _job.JobError(
                f"tensor {name} has no place in GGUF's llama architecture", _job.MODEL_UNSUPPORTED
            )
        rotary = heads if ".q_proj." in name else kv_heads if ".k_proj." in name else 0
        yield target, (lambda read=read, rotary=rotary: permute(read(), rotary) if rotary else read())


def _expected_names(config: Mapping[str, Any]) -> set[str]:
    attention = [f"self_attn.{part}_proj" for part in "qkvo"]
    layer = [*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm"]
    layer.append("post_attention_layernorm")
    names = {f"model.layers.{i}.{part}.weight" for i in range(config["num_hidden_layers"]) for part in layer}
    names |= {"model.embed_tokens.weight", "model.norm.weight"}
    return names if config.get("tie_word_embeddings") else names | {"lm_head.weight"}


def _readers(job: _job.Job, config: Mapping[str, Any], checkpoint: Any) -> dict[str, Any]:
    if TYPE_CHECKING or __package__:
        from . import _tensors
    else:
        import _tensors

    declared = config.get("quantization_config")
    if not declared:
        plain = {}
        for name in checkpoint.names():
            tensor = checkpoint.get(name)
            if tensor.dtype not in _tensors.FLOAT_DTYPES:
                message = f"tensor {name} is {tensor.dtype}, yet config.json declares no quantization"
                raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
            plain[name] = tensor.float32
        return plain
    method = declared.get("quant_method")
    if method != "compressed-tensors":
        message = f"the source is quantized by {method!r}: only compressed-tensors can be dequantized here"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    kind = job.options["type"]
    for option in ("type", "embedding_type", "output_type"):
        if job.options[option] not in (*FLOAT_TYPES, "auto"):
            message = (
                f"{option} {job.options[option]} would quantize the source's {declared.get('format')} "
                "weights a second time: choose F32, BF16 or F16"
            )
            raise _job.JobError(message, _job.USER_CONFIG_ERROR)
    quantized = _tensors.CompressedTensors(checkpoint, declared)
    job.notes.append(
        f"dequantized {declared.get('format')} to the values that transformers serves, stored as {kind}"
    )
    return quantized.readers()


def permute(weight: Any, heads: int) -> Any:
    """Reorder the rows of q and k: Hugging Face rotates halves, llama.cpp interleaved pairs."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _add_tensor(writer: Any, job: _job.Job, name: str, values: Any) -> float:
    """Add one tensor in its type and return the largest absolute change that the type makes."""
    import gguf
    import numpy as np

    values = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(values).all():
        raise _job.JobError(f"{name} holds values that are not finite", _job.MODEL_UNSUPPORTED)
    kind = gguf.GGMLQuantizationType[_tensor_type(job.options, name, values.ndim)]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if values.ndim > 1 and values.shape[-1] % block:
        message = f"{name}: rows of {values.shape[-1]} are not divisible by the {kind.name} block of {block}"
        raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)
    with np.errstate(over="ignore"):
        stored = gguf.quants.quantize(values, kind)
    writer.add_tensor(name, stored, raw_dtype=kind)
    change = float(
        np.abs(gguf.quants.dequantize(stored, kind).reshape(values.shape) - values).max(initial=0.0)
    )
    if not math.isfinite(change):
        raise _job.JobError(
            f"{name} does not fit into {kind.name}: use BF16 or F32", _job.QUANT_COVERAGE_FAILURE
        )
    return change


def _tensor_type(options: Mapping[str, Any], name: str, dimensions: int) -> str:
    """The GGUF type of one tensor: vectors stay F32; embedding and head stay floating unless asked for."""
    if dimensions == 1:
        return "F32"
    main: str = options["type"]
    option = {"token_embd.weight": "embedding_type", "output.weight": "output_type"}.get(name)
    if option is None:
        return main
    chosen: str = options[option]
    if chosen != "auto":
        return chosen
    return main if main in FLOAT_TYPES else "F16"


WORKER = _job.Worker(
    kind="gguf",
    packages=("gguf", "numpy"),
    options=(
        _job.Option("type", "str", "F16", "GGUF type of the layers' matrices", TYPES),
        _job.Option(
            "embedding_type", "str", "auto", "type of the embedding; auto: floating", ("auto", *TYPES)
        ),
        _job.Option("output_type", "str", "auto", "type of lm_head; auto: floating", ("auto", *TYPES)),
        _job.Option(
            "pre_tokenizer", "str", "auto", "llama.cpp's name for the pre-tokenizer; auto: recognized"
        ),
        _job.Option("file_name", "str", "model.gguf", "name of the file in out"),
    ),
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(_job.main(WORKER))
