"""Build kind `gguf`: a GGUF file for llama.cpp, written by the `gguf` package; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.runtime.worker import WorkerBuild, WorkerOptions


class Options(WorkerOptions):
    """Options of `build: {kind: gguf}`."""

    type: str = "F16"
    """GGUF type of the layers' matrices: F32, F16, BF16, Q8_0, Q5_0, Q5_1, Q4_0, Q4_1, MXFP4, ..."""
    embedding_type: str = "auto"
    """Type of the embedding; auto = floating point."""
    output_type: str = "auto"
    """Type of lm_head; auto = floating point."""
    pre_tokenizer: str = "auto"
    """llama.cpp's name for the pre-tokenizer; auto = recognized."""
    file_name: str = "model.gguf"
    """Name of the file in the artifact."""


class Adapter(WorkerBuild):
    """Writes GGUF for llama-architecture checkpoints."""

    kind = "gguf"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    def intent(self) -> Mapping[str, Any]:
        """The scheme that the options ask for."""
        o = self.options
        return {"recipe": o.type, "ignore": ["lm_head"] if o.output_type == "auto" else []}
