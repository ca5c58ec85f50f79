"""What the torch workers share: options, loading a checkpoint whole or not at all, calibration, saving.

Imports torch and transformers when a function is called, never at import: ``--probe`` must stay cheap.
"""

# ruff: noqa: PLC0415  (a vendor is imported where it is used: --probe must cost milliseconds)

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _job

MATRIX_SIDE = 16
"""Smaller than this in a direction, and a 3-D parameter holds no weight matrices."""
DTYPES = ("auto", "bfloat16", "float16", "float32")

MODEL_OPTIONS = (
    _job.Option("dtype", "str", "auto", "dtype of the loaded and of the unquantized weights", DTYPES),
    _job.Option("ignore", "names", ["lm_head"], "modules that keep their dtype; names, or re:PATTERN"),
)

WEIGHT_OPTIONS = (
    _job.Option("scheme", "str", None, "a preset of compressed-tensors, such as W4A16"),
    _job.Option(
        "num_bits", "int", None, "bits per weight; without a scheme this makes a weight-only one", minimum=1
    ),
    _job.Option("weight_type", "str", None, "number format of the weights", ("int", "float")),
    _job.Option("strategy", "str", None, "what shares one scale", ("tensor", "channel", "group")),
    _job.Option(
        "group_size", "int", None, "weights per scale along the input; implies strategy group", minimum=1
    ),
    _job.Option("symmetric", "bool", None, "false adds a zero point"),
    _job.Option("targets", "names", ["Linear"], "module classes, names, or re:PATTERN to quantize"),
)

CALIBRATION_OPTIONS = (
    _job.Option("calibration_path", "path", None, 'JSON lines of {"messages": [...]} or {"text": "..."}'),
    _job.Option("calibration_samples", "int", 128, "rows used, from the first on", minimum=1),
    _job.Option("max_length_tokens", "int", 512, "longer rows are cut", minimum=1),
)

FAILURES = (
    (r"does not recognize this architecture|Unrecognized (model|configuration)", _job.MODEL_UNSUPPORTED),
    (r"trust_remote_code", _job.MODEL_UNSUPPORTED),
    # "divisble" is how compressed-tensors 0.18 spells it.
    (r"divis(i)?ble|must be divisible|not divisible", _job.QUANT_COVERAGE_FAILURE),
    (r"SafetensorError|HeaderTooLarge|InvalidHeader|UnpicklingError", _job.USER_CONFIG_ERROR),
    (r"ValidationError: .*Quantization(Args|Scheme|Config)", _job.USER_CONFIG_ERROR),
)


def seed_everything(job: _job.Job) -> None:
    """Seed Python, numpy and torch, and bound torch's threads."""
    import numpy as np
    import torch

    random.seed(job.seed)
    np.random.seed(job.seed % 2**32)  # noqa: NPY002  (vendors draw from the global generator)
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)


def load_model(job: _job.Job) -> Any:
    """Load the source for inference; one that does not fill the architecture is refused.

    Raises:
        JobError: MODEL_UNSUPPORTED when weights are missing or have another shape: transformers would go on
            with random ones.
    """
    import torch
    from transformers import AutoModelForCausalLM

    wanted = job.options["dtype"]
    dtype = "auto" if wanted == "auto" else getattr(torch, wanted)
    model, info = AutoModelForCausalLM.from_pretrained(job.source, dtype=dtype, output_loading_info=True)
    for key in ("missing_keys", "mismatched_keys"):
        if found := sorted(str(name) for name in info.get(key) or ()):
            message = (
                f"{job.source}: {key.replace('_', ' ')} when loaded as {type(model).__name__}: {found[:5]}"
            )
            raise _job.JobError(f"{message} ({len(found)} in all)", _job.MODEL_UNSUPPORTED)
    if extra := sorted(info.get("unexpected_keys") or ()):
        job.notes.append(
            f"source tensors that {type(model).__name__} does not use and that are lost: {extra[:5]}"
        )
    return model.eval()


def calibration_ids(job: _job.Job) -> list[list[int]]:
    """Tokenize the calibration rows, each by the source's own chat template or as plain text.

    Raises:
        JobError: USER_CONFIG_ERROR when no rows are named, or all of them are empty.
    """
    from transformers import AutoTokenizer

    path = job.options["calibration_path"]
    if path is None:
        raise _job.JobError(
            "this recipe needs calibration_path: JSON lines of prompts", _job.USER_CONFIG_ERROR
        )
    tokenizer = AutoTokenizer.from_pretrained(job.source)
    limit = job.options["max_length_tokens"]
    encoded = []
    for row in _job.read_rows(path, job.options["calibration_samples"]):
        templated = "messages" in row
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False) if templated else row["text"]
        # Cut the list here: truncation=True would be remembered inside the tokenizer.
        encoded.append(tokenizer(text, add_special_tokens=not templated).input_ids[:limit])
    encoded = [ids for ids in encoded if ids]
    if not encoded:
        raise _job.JobError(f"every calibration row of {path} is empty", _job.USER_CONFIG_ERROR)
    tokens = sum(len(ids) for ids in encoded)
    job.notes.append(f"calibrated on {len(encoded)} rows, {tokens} tokens")
    job.extra["calibration"] = {"rows": len(encoded), "tokens": tokens}
    return encoded


def quantization_scheme(job: _job.Job) -> Any:
    """Build the QuantizationScheme of the options: a preset, a preset with changes, or a free form.

    Raises:
        JobError: USER_CONFIG_ERROR when nothing is asked for, or compressed-tensors refuses the combination.
    """
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, preset_name_to_scheme
    from compressed_tensors.quantization.quant_scheme import PRESET_SCHEMES

    options, targets = job.options, job.options["targets"]
    changes = {
        key: options[option]
        for key, option in (("num_bits", "num_bits"), ("type", "weight_type"), ("symmetric", "symmetric"))
        if options[option] is not None
    }
    if options["strategy"] or options["group_size"]:
        changes["strategy"] = options["strategy"] or "group"
        changes["group_size"] = options["group_size"]
    name = options["scheme"]
    try:
        if name is None:
            if options["num_bits"] is None:
                raise _job.JobError("name a scheme (such as W4A16), or num_bits", _job.USER_CONFIG_ERROR)
            weights = QuantizationArgs(**{"strategy": "channel", "type": "int", **changes})
            return QuantizationScheme(targets=targets, weights=weights)
        if name.upper() not in PRESET_SCHEMES or name.upper() == "UNQUANTIZED":
            known = ", ".join(sorted(set(PRESET_SCHEMES) - {"UNQUANTIZED"}))
            raise _job.JobError(f"unknown scheme {name!r}; known: {known}", _job.USER_CONFIG_ERROR)
        scheme = preset_name_to_scheme(name, targets)
        if not changes:
            return scheme
        base = scheme.weights.model_dump()
        if changes.get("strategy", "group") != "group":
            base["group_size"] = None
        weights = QuantizationArgs(**{**base, "zp_dtype": None, "observer": None, **changes})
        return QuantizationScheme(
            targets=targets, weights=weights, input_activations=scheme.input_activations
        )
    except ValueError as exc:
        raise _job.JobError(f"compressed-tensors refuses the scheme: {exc}", _job.USER_CONFIG_ERROR) from exc


def check_coverage(job: _job.Job, model: Any) -> None:
    """Count what the scheme took, record it, and refuse a recipe that took nothing, or passed over experts.

    Raises:
        JobError: MODEL_UNSUPPORTED when not one module matched; QUANT_COVERAGE_FAILURE, see `require_experts`.
    """
    import torch
    from compressed_tensors.quantization.utils import is_module_quantized

    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    taken = {name for name, module in model.named_modules() if is_module_quantized(module)}
    if not taken:
        message = f"the recipe took none of {len(linear)} Linear modules; targets: {job.options['targets']}"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    left = sorted(linear - taken)
    require_experts([n for n in stacked_weights(model) if _asked(job, n, model)])
    job.extra["quantized_modules"] = len(taken)
    job.notes.append(
        f"quantized {len(taken)} modules; left as they were: {left[:5] if left else 'no Linear'}"
    )


def stacked_weights(model: Any) -> list[str]:
    """Names of the parameters that hold a weight matrix for each expert: [experts, out, in]; no Linear holds them."""
    import torch

    found = []
    for name, module in model.named_modules():
        convolution = hasattr(module, "kernel_size")
        for short, value in module.named_parameters(recurse=False):
            matrices = value.ndim == 3 and value.shape[0] > 1 and min(value.shape[1:]) >= MATRIX_SIDE
            if matrices and not convolution and torch.is_floating_point(value):
                found.append(f"{name}.{short}" if name else short)
    return found


def require_experts(passed_over: Sequence[str]) -> None:
    """Refuse to hand on a checkpoint whose experts kept their dtype although the recipe was to take them.

    Raises:
        JobError: QUANT_COVERAGE_FAILURE naming the first one.
    """
    if passed_over:
        message = (
            f"the experts of {passed_over[0]} lie in one 3-D parameter, which the toolkit passes over, as with "
            f"{len(passed_over) - 1} others: name them in `ignore` to keep their dtype, or use another toolkit"
        )
        raise _job.JobError(message, _job.QUANT_COVERAGE_FAILURE)


def _asked(job: _job.Job, name: str, model: Any) -> bool:
    """Whether the recipe was to take a stacked weight: it stands for the Linear modules of its experts."""
    owner = name.rpartition(".")[0]
    names = (name, owner, type(model.get_submodule(owner)).__name__)

    def named(entry: str) -> bool:
        pattern = entry.removeprefix("re:")
        return any(re.match(pattern, n) for n in names) if entry.startswith("re:") else entry in names

    targets, ignore = job.options["targets"], job.options["ignore"]
    return any(t == "Linear" or named(t) for t in targets) and not any(named(entry) for entry in ignore)


def note_unpacked(job: _job.Job, scheme: Any) -> None:
    """Say so when fewer than 8 bits are asked for and the format stores a byte each."""
    weights = scheme.weights
    if (
        weights is not None
        and weights.type == "int"
        and weights.num_bits < 8
        and scheme.input_activations is not None
    ):
        job.notes.append(
            f"{weights.num_bits}-bit weights beside quantized activations are stored one a byte "
            f"({scheme.format or 'int-quantized'}): "
            "the files are as large as 8-bit ones"
        )


def finish(job: _job.Job) -> None:
    """Put the source's own settings and companions back beside the new weights."""
    _job.merge_config(job)
    _job.copy_companions(job)
