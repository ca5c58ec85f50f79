"""Worker: round-to-nearest weight quantization with `compressed-tensors` alone; no calibration data.

Writes a checkpoint that transformers and vLLM load: a preset (W8A8, W8A16, W4A16, FP8_DYNAMIC, NVFP4A16,
MXFP4A16, ...), a preset with another group size, or a free form of bits, strategy, group and symmetry.
"""

# ruff: noqa: PLC0415  (a vendor is imported where it is used: --probe must cost milliseconds)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import _hf, _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _hf
    import _job

JOINED = (
    ("q_proj", "k_proj", "v_proj"),
    ("q_a_proj", "kv_a_proj_with_mqa"),
    ("in_proj_qkv", "in_proj_z"),
    ("in_proj_b", "in_proj_a"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
)
"""Modules of one parent that vLLM joins into one tensor: with NVFP4 it has one global scale."""


def run(job: _job.Job) -> None:
    """Quantize ``job.source`` into ``job.staging``.

    Raises:
        JobError: USER_CONFIG_ERROR for a scheme that needs calibration; QUANT_COVERAGE_FAILURE for a group
            size that does not divide a layer.
    """
    _job.require_unquantized(job)
    job.emit(0.02, "loading torch, transformers and compressed-tensors")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

    scheme = _hf.quantization_scheme(job)
    _refuse_static_activations(job, scheme)
    _hf.seed_everything(job)
    job.emit(0.3, "loading the model")
    model = _hf.load_model(job)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=job.options["ignore"])
    apply_quantization_config(model, config)
    _hf.check_coverage(job, model)
    modules = [
        (n, m) for n, m in model.named_modules() if getattr(m, "quantization_scheme", None) is not None
    ]
    spans = joined_spans(modules)
    for index, (name, module) in enumerate(modules):
        job.emit(0.4 + 0.4 * index / len(modules), f"quantizing {name}")
        set_weight_parameters(name, module, spans[name])
    _hf.note_unpacked(job, scheme)
    job.emit(0.8, "saving")
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(job.staging)
    compressor.update_config(job.staging)
    _hf.finish(job)


def _refuse_static_activations(job: _job.Job, scheme: Any) -> None:
    inputs = scheme.input_activations
    if inputs is not None and inputs.dynamic is not True:
        message = (
            f"scheme {job.options['scheme']} has static activation scales, which need calibration: use the "
            "llmcompressor worker, or a dynamic or weight-only scheme (FP8_DYNAMIC, NVFP4A16)"
        )
        raise _job.JobError(message, _job.USER_CONFIG_ERROR)


def joined_spans(modules: Sequence[tuple[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Smallest and largest weight of each module, taken over all that a loader joins it with.

    Args:
        modules: (name, Linear) of all that are quantized.
    """
    import torch

    groups: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
    for name, module in modules:
        parent, _, short = name.rpartition(".")
        groups[parent, next((joined for joined in JOINED if short in joined), short)].append((name, module))
    spans = {}
    for members in groups.values():
        low = torch.stack([m.weight.detach().float().amin() for _, m in members]).amin().reshape(1)
        high = torch.stack([m.weight.detach().float().amax() for _, m in members]).amax().reshape(1)
        spans.update({name: (low, high) for name, _ in members})
    return spans


def set_weight_parameters(name: str, module: Any, span: tuple[Any, Any]) -> None:
    """Set scale, zero point and global scale of one module from the range of its weights.

    Args:
        name: Module name, for the error message.
        module: A Linear with a ``quantization_scheme``; weight is [out, in].
        span: Smallest and largest weight that the global scale covers, [1] each; see `joined_spans`.

    Raises:
        JobError: QUANT_COVERAGE_FAILURE when the group size does not divide the inputs.
    """
    import torch
    from compressed_tensors.quantization import QuantizationStatus
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    args = module.quantization_scheme.weights
    weight = module.weight.detach().float()
    extra: dict[str, Any] = {}
    if args.strategy in ("group", "tensor_group"):
        if weight.shape[1] % args.group_size:
            message = f"{name}: {weight.shape[1]} inputs are not divisible by group_size {args.group_size}"
            raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)
        groups = weight.reshape(weight.shape[0], -1, args.group_size)
        low, high = groups.amin(-1), groups.amax(-1)
    elif args.strategy == "channel":
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    elif args.strategy == "block":
        low, high = _block_range(weight, *args.block_structure)
    else:
        low, high = weight.amin().reshape(1), weight.amax().reshape(1)
    with torch.no_grad():
        if args.strategy == "tensor_group":
            extra["global_scale"] = generate_gparam(*span)
            module.weight_global_scale.copy_(extra["global_scale"])
        scale, zero_point = calculate_qparams(low, high, args, **extra)
        module.weight_scale.copy_(scale.reshape(module.weight_scale.shape))
        if getattr(module, "weight_zero_point", None) is not None:
            module.weight_zero_point.copy_(zero_point.reshape(module.weight_zero_point.shape))
    module.quantization_status = QuantizationStatus.FROZEN


def _block_range(weight: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Smallest and largest weight of each rows x columns block; the last blocks may be short."""
    import torch

    pads = (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows)
    # Padding with zero leaves the range right: zero is always inside the quantized range.
    padded = torch.nn.functional.pad(weight, pads)
    blocks = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
    return blocks.amin((1, 3)), blocks.amax((1, 3))


WORKER = _job.Worker(
    kind="compressed_tensors",
    packages=("compressed-tensors", "torch", "transformers", "safetensors"),
    options=(*_hf.WEIGHT_OPTIONS, *_hf.MODEL_OPTIONS),
    run=run,
    failures=_hf.FAILURES,
)

if __name__ == "__main__":
    raise SystemExit(_job.main(WORKER))
