"""Build kind `llmcompressor`: calibrated quantization (GPTQ, AWQ, SmoothQuant) with llm-compressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.core.base import SpecPath
from assay.runtime.worker import WorkerBuild, WorkerOptions


class Options(WorkerOptions):
    """Options of `build: {kind: llmcompressor}`."""

    scheme: str | None = None
    """A preset of compressed-tensors: W8A8, W8A16, W4A16, FP8_DYNAMIC, NVFP4A16, MXFP4A16, ..."""
    num_bits: int | None = Field(default=None, ge=1, le=8)
    """Bits per weight; without a scheme this makes a weight-only one."""
    weight_type: Literal["int", "float"] | None = None
    """Number format of the weights."""
    strategy: Literal["tensor", "channel", "group"] | None = None
    """What shares one scale."""
    group_size: int | None = Field(default=None, ge=1)
    """Weights per scale along the input; implies strategy group."""
    symmetric: bool | None = None
    """False adds a zero point."""
    targets: tuple[str, ...] = ("Linear",)
    """Module classes, names, or `re:PATTERN` to quantize."""
    ignore: tuple[str, ...] = ("lm_head",)
    """Modules that keep their dtype; names, or `re:PATTERN`."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """dtype of the loaded and of the unquantized weights."""
    algorithm: Literal["rtn", "gptq", "awq", "smoothquant"] = "rtn"
    """How the rounding is chosen."""
    calibration_path: SpecPath | None = None
    """JSON lines of `{"messages": [...]}` or `{"text": "..."}`, for algorithms that calibrate."""
    calibration_samples: int = Field(default=128, ge=1)
    """Rows used, from the first on."""
    max_length_tokens: int = Field(default=512, ge=1)
    """Longer rows are cut."""
    kv_cache: Literal["none", "fp8"] = "none"
    """Number format of the KV cache."""
    damping_frac: float = Field(default=0.01, ge=0)
    """GPTQ: part of the mean Hessian diagonal that is added to it."""
    block_size: int = Field(default=128, ge=1)
    """GPTQ: columns a pass."""
    activation_order: Literal["static", "group", "none"] = "static"
    """GPTQ: order of the columns."""
    awq_grid_points: int = Field(default=20, ge=1)
    """AWQ: scales tried per layer."""
    smoothing_strength: float = Field(default=0.5, ge=0, le=1)
    """SmoothQuant: how much of the difficulty moves from activations to weights."""


class Adapter(WorkerBuild):
    """Calibrated quantization into the compressed-tensors format."""

    kind = "llmcompressor"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    def intent(self) -> Mapping[str, Any]:
        """The scheme that the options ask for."""
        names = ("scheme", "num_bits", "weight_type", "group_size", "targets", "ignore")
        return self.options.model_dump(include=set(names), exclude_none=True, mode="json")
