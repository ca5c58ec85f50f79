"""Build kind `compressed_tensors`: round-to-nearest with the `compressed-tensors` package alone; needs no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from assay.runtime.worker import WorkerBuild, WorkerOptions


class Options(WorkerOptions):
    """Options of `build: {kind: compressed_tensors}`."""

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


class Adapter(WorkerBuild):
    """Data-free quantization into the format that transformers and vLLM load."""

    kind = "compressed_tensors"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    def intent(self) -> Mapping[str, Any]:
        """The scheme that the options ask for."""
        names = ("scheme", "num_bits", "weight_type", "group_size", "targets", "ignore")
        return self.options.model_dump(include=set(names), exclude_none=True, mode="json")
