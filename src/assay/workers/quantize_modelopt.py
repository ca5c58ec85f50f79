"""Worker: NVIDIA ModelOpt post-training quantization, exported as a Hugging Face checkpoint.

The model is never evaluated in memory: ModelOpt's fake quantization needs CUDA for the FP4 formats, and it is
not what a loader does with the files anyway.
"""

# ruff: noqa: PLC0415  (a vendor is imported where it is used: --probe must cost milliseconds)

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import _hf, _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _hf
    import _job

# Names as people say them, where they are not NAME_CFG or NAME_DEFAULT_CFG.
ALIASES = {
    "W4A8_AWQ": "W4A8_AWQ_BETA_CFG",
    "NVFP4_AWQ": "NVFP4_AWQ_LITE_CFG",
    "NVFP4_SVDQUANT": "NVFP4_SVDQUANT_DEFAULT_CFG",
}

# A Linear has `weight_quantizer`; fused experts `gate_up_proj_weight_quantizer`, or a list of one for each expert.
QUANTIZER = re.compile(r"(?P<owner>.*?)\.?(?P<weight>\w*?)_?weight_quantizers?(\.\d+)*")


def run(job: _job.Job) -> None:
    """Quantize ``job.source`` into ``job.staging``.

    Raises:
        JobError: USER_CONFIG_ERROR for an unknown config or missing calibration rows; MODEL_UNSUPPORTED when
            the config took no module.
    """
    _job.require_unquantized(job)
    job.emit(0.02, "loading torch, transformers and modelopt")
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint

    config = build_config(job, mtq)
    _hf.seed_everything(job)
    forward = _forward_loop(job) if mtq.config.need_calibration(config) else None
    job.emit(0.35, "loading the model")
    model = _hf.load_model(job)
    job.emit(0.45, "quantizing")
    with torch.no_grad():
        model = mtq.quantize(model, config, forward)
    check_coverage(job, model, config)
    job.emit(0.85, "exporting")
    with torch.inference_mode():
        export_hf_checkpoint(model, export_dir=str(job.staging))
    _hf.finish(job)
    job.notes.append(
        "quant_method is modelopt: stock transformers ignores the scales (meant for vLLM, TensorRT-LLM)"
    )


def build_config(job: _job.Job, mtq: Any) -> dict[str, Any]:
    """ModelOpt's own config of that name, with our ignore list and the KV cache format.

    Raises:
        JobError: USER_CONFIG_ERROR naming the configs that exist.
    """
    name = job.options["config"]
    known = sorted(mtq.config.choices)
    if name is None:
        raise _job.JobError(f"name a config, such as FP8; known: {', '.join(known)}", _job.USER_CONFIG_ERROR)
    upper = name.upper()
    candidates = (upper, f"{upper}_CFG", f"{upper}_DEFAULT_CFG", ALIASES.get(upper, ""))
    found = next((candidate for candidate in candidates if candidate in mtq.config.choices), None)
    if found is None:
        raise _job.JobError(f"unknown config {name!r}; known: {', '.join(known)}", _job.USER_CONFIG_ERROR)
    config: dict[str, Any] = copy.deepcopy(getattr(mtq, found))
    ignore = job.options["ignore"]
    if any(pattern.startswith("re:") for pattern in ignore):
        message = (
            "modelopt matches names with wildcards, not regular expressions: write *name* instead of re:..."
        )
        raise _job.JobError(message, _job.USER_CONFIG_ERROR)
    if "lm_head" not in ignore:
        # ModelOpt leaves the head alone by itself; an empty ignore list asks for it.
        config["quant_cfg"] = [e for e in config["quant_cfg"] if e.get("quantizer_name") != "*lm_head*"]
        job.notes.append("lm_head is quantized: the ignore list does not name it")
    config["quant_cfg"] += [{"quantizer_name": f"*{entry.strip('*')}*", "enable": False} for entry in ignore]
    kv_cache = job.options["kv_cache"]
    if kv_cache != "none":
        entries = getattr(mtq, f"{kv_cache.upper()}_KV_CFG")["quant_cfg"]
        config = mtq.update_quant_cfg_with_kv_cache_quant(config, entries)
    job.notes.append(f"modelopt config {found}, algorithm {config['algorithm']}")
    return config


def _forward_loop(job: _job.Job) -> Any:
    import torch

    job.emit(0.3, "tokenizing the calibration rows")
    ids = _hf.calibration_ids(job)

    def forward(model: Any) -> None:
        # One row a batch: padding tokens would count in the activation ranges.
        for row in ids:
            model(input_ids=torch.tensor([row], device=model.device))

    return forward


def check_coverage(job: _job.Job, model: Any, config: Mapping[str, Any]) -> None:
    """Count the modules whose weights a quantizer took; fused experts have theirs beside each 3-D parameter.

    Raises:
        JobError: MODEL_UNSUPPORTED when the config took nothing; QUANT_COVERAGE_FAILURE when it passed over experts.
    """
    import torch

    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    weights = {
        (found["owner"], found["weight"])
        for name, module in model.named_modules()
        if (found := QUANTIZER.fullmatch(name)) and getattr(module, "is_enabled", False)
    }
    taken = {owner for owner, _ in weights}
    if not taken:
        message = f"config {job.options['config']} took none of {len(linear)} Linear modules of this model"
        raise _job.JobError(message, _job.MODEL_UNSUPPORTED)
    stacked = [name.rpartition(".") for name in _hf.stacked_weights(model)]
    _hf.require_experts(
        [f"{o}.{w}" for o, _, w in stacked if (o, w) not in weights and _asked(config, f"{o}.{w}")]
    )
    job.extra["quantized_modules"] = len(taken)
    job.notes.append(
        f"quantized {len(taken)} modules; left as they were: {sorted(linear - taken)[:5] or 'no Linear'}"
    )


def _asked(config: Mapping[str, Any], weight: str) -> bool:
    """Whether the config was to take a stacked weight; its last entry that names the quantizer wins."""
    asked = False
    for entry in config["quant_cfg"]:
        pattern = entry.get("quantizer_name", "")
        names = (f"{weight}_weight_quantizer", f"{weight}_weight_quantizers.0")
        if not entry.get("parent_class") and any(fnmatch.fnmatchcase(name, pattern) for name in names):
            asked = bool(entry.get("enable", True))
    return asked


WORKER = _job.Worker(
    kind="modelopt",
    # modelopt 0.47 imports requests without declaring it.
    packages=("nvidia-modelopt", "requests", "torch", "transformers", "safetensors"),
    options=(
        _job.Option(
            "config", "str", None, "ModelOpt config: FP8, NVFP4, INT4_AWQ, INT8, W4A8_AWQ, MXFP4, ..."
        ),
        *_hf.MODEL_OPTIONS,
        *_hf.CALIBRATION_OPTIONS,
        _job.Option("kv_cache", "str", "none", "number format of the KV cache", ("none", "fp8", "nvfp4")),
    ),
    run=run,
    failures=(
        # Recipes that run the FP4 fake quantization while they calibrate, on a machine without a GPU.
        (r"must be a CUDA tensor|CUDA extension|requires? (a )?(GPU|CUDA)", _job.MODEL_UNSUPPORTED),
        (r"nothing would be quantized", _job.MODEL_UNSUPPORTED),
        *_hf.FAILURES,
    ),
)

if __name__ == "__main__":
    raise SystemExit(_job.main(WORKER))
