"""Worker: calibrated quantization with `llmcompressor` (RTN, GPTQ, AWQ, SmoothQuant)."""

# ruff: noqa: PLC0415  (a vendor is imported where it is used: --probe must cost milliseconds)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import _hf, _job
else:  # started as a script: the folder of the script is the first entry of sys.path
    import _hf
    import _job

ALGORITHMS = ("rtn", "gptq", "awq", "smoothquant")


def run(job: _job.Job) -> None:
    """Quantize ``job.source`` into ``job.staging``.

    Raises:
        JobError: USER_CONFIG_ERROR when the recipe needs calibration rows and none are named.
    """
    _job.require_unquantized(job)
    job.emit(0.02, "loading torch, transformers and llmcompressor")
    from llmcompressor import oneshot

    scheme = _hf.quantization_scheme(job)
    _hf.seed_everything(job)
    recipe = build_recipe(job, scheme)
    calibration = _calibration(job) if needs_calibration(job, scheme) else {}
    job.emit(0.35, "loading the model")
    model = _hf.load_model(job)
    if job.options["algorithm"] == "awq":
        _work_around_pin_memory(job)
    job.emit(0.45, f"running {job.options['algorithm']}")
    oneshot(model=model, recipe=recipe, tokenizer=str(job.source), **calibration)
    _hf.check_coverage(job, model)
    _hf.note_unpacked(job, scheme)
    job.emit(0.9, "saving")
    model.save_pretrained(job.staging, save_compressed=True)
    _hf.finish(job)


def build_recipe(job: _job.Job, scheme: Any) -> list[Any]:
    """The list of llmcompressor modifiers for the algorithm asked for."""
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    options = job.options
    common: dict[str, Any] = {"config_groups": {"group_0": scheme}, "ignore": options["ignore"]}
    if options["kv_cache"] == "fp8":
        common["kv_cache_scheme"] = {
            "num_bits": 8,
            "type": "float",
            "strategy": "tensor",
            "dynamic": False,
            "symmetric": True,
        }
    if options["algorithm"] == "gptq":
        order = None if options["activation_order"] == "none" else options["activation_order"]
        damping = options["damping_frac"]
        return [
            GPTQModifier(actorder=order, dampening_frac=damping, block_size=options["block_size"], **common)
        ]
    plain = QuantizationModifier(**common)
    if options["algorithm"] == "awq":
        from llmcompressor.modifiers.transform.awq import AWQModifier

        return [AWQModifier(n_grid=options["awq_grid_points"]), plain]
    if options["algorithm"] == "smoothquant":
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        return [SmoothQuantModifier(smoothing_strength=options["smoothing_strength"]), plain]
    return [plain]


def needs_calibration(job: _job.Job, scheme: Any) -> bool:
    """Whether the recipe reads activations: its algorithm, static input scales, or a KV cache."""
    inputs = scheme.input_activations
    static = inputs is not None and inputs.dynamic is not True
    return static or job.options["algorithm"] != "rtn" or job.options["kv_cache"] != "none"


def _calibration(job: _job.Job) -> dict[str, Any]:
    from datasets import Dataset

    job.emit(0.3, "tokenizing the calibration rows")
    ids = _hf.calibration_ids(job)
    # Tokenized here and kept in memory: datasets' own map() would write caches outside `out`.
    rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    return {
        "dataset": rows,
        "num_calibration_samples": len(ids),
        "max_seq_length": job.options["max_length_tokens"],
        "shuffle_calibration_samples": False,
    }


def _work_around_pin_memory(job: _job.Job) -> None:
    """Let AWQ run on a machine without accelerator.

    Its cache pins memory without asking (0.13.0 and 0.14.0.1): "Cannot access accelerator device when none is
    available". Pinning only speeds up copies to a device, so without one nothing is lost.
    """
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.accelerator.is_available() or not hasattr(IntermediatesCache, "pin_memory"):
        return
    IntermediatesCache.pin_memory = lambda *_args, **_kwargs: None
    job.notes.append("no accelerator: llmcompressor's pin_memory switched off (its AWQ fails otherwise)")


WORKER = _job.Worker(
    kind="llmcompressor",
    packages=("llmcompressor", "compressed-tensors", "torch", "transformers", "datasets", "safetensors"),
    options=(
        *_hf.WEIGHT_OPTIONS,
        *_hf.MODEL_OPTIONS,
        *_hf.CALIBRATION_OPTIONS,
        _job.Option("algorithm", "str", "rtn", "how the rounding is chosen", ALGORITHMS),
        _job.Option("kv_cache", "str", "none", "number format of the KV cache", ("none", "fp8")),
        _job.Option(
            "damping_frac", "float", 0.01, "GPTQ: part of the mean Hessian diagonal added to it", minimum=0
        ),
        _job.Option("block_size", "int", 128, "GPTQ: columns per pass", minimum=1),
        _job.Option("activation_order", "str", "static", "GPTQ: column order", ("static", "group", "none")),
        _job.Option("awq_grid_points", "int", 20, "AWQ: scales tried per layer", minimum=1),
        _job.Option("smoothing_strength", "float", 0.5, "SmoothQuant: alpha, 0..1", minimum=0),
    ),
    run=run,
    failures=(
        (r"No.*mapping|[Mm]appings? .*not found|Cannot resolve .*mapping", _job.MODEL_UNSUPPORTED),
        (r"symbolic trace|TraceError|fx\.proxy", _job.MODEL_UNSUPPORTED),
        *_hf.FAILURES,
    ),
)

if __name__ == "__main__":
    raise SystemExit(_job.main(WORKER))
