"""Build kind `modelopt`: NVIDIA Model-Optimizer; its export runs on CPU, also where its fake quantization does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.core.base import SpecPath
from assay.runtime.worker import WorkerBuild, WorkerOptions


class Options(WorkerOptions):
    """Options of `build: {kind: modelopt}`."""

    config: str
    """ModelOpt config: FP8, NVFP4, INT4_AWQ, INT8, W4A8_AWQ, MXFP4, ..."""
    calibration_path: SpecPath | None = None
    """JSON lines of `{"messages": [...]}` or `{"text": "..."}`, for algorithms that calibrate."""
    calibration_samples: int = Field(default=128, ge=1)
    """Rows used, from the first on."""
    max_length_tokens: int = Field(default=512, ge=1)
    """Longer rows are cut."""
    ignore: tuple[str, ...] = ("lm_head",)
    """Modules that keep their dtype."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """dtype of the loaded and of the unquantized weights."""
    kv_cache: Literal["none", "fp8", "nvfp4"] = "none"
    """Number format of the KV cache."""


class Adapter(WorkerBuild):
    """Exports NVIDIA's checkpoint format (`hf_quant_config.json`)."""

    kind = "modelopt"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    def intent(self) -> Mapping[str, Any]:
        """The scheme that the options ask for."""
        return {"recipe": self.options.config, "ignore": list(self.options.ignore)}
