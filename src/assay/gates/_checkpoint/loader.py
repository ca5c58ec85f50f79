"""What each serving engine loads: formats it refuses, and those it reads wrongly without saying so."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.base import Noun
from assay.core.checkpoint import Checkpoint
from assay.core.vocabulary import FailureClass
from assay.gates._checkpoint.findings import Finding, bad, good

PLAIN = "none"


class Loader(Noun):
    """What one engine does with a checkpoint."""

    loads: frozenset[str]
    """quant_methods; `none` = unquantized safetensors, `gguf` = GGUF files."""
    silently_wrong: Mapping[str, str] = {}
    """quant_method → what happens instead of an error."""


_SKIPS = "skips quant_method '{}' with a warning and uses {} codes without scales"
LOADERS: Mapping[str, Loader] = {
    "transformers": Loader(
        loads=frozenset(
            {
                PLAIN,
                "compressed-tensors",
                "bitsandbytes",
                "torchao",
                "gptq",
                "awq",
                "auto-round",
                "fp8",
                "fbgemm-fp8",
                "hqq",
                "mxfp4",
                "aqlm",
                "vptq",
                "higgs",
                "spqr",
                "bitnet",
                "eetq",
                "quark",
                "fp-quant",
                "sinq",
            }
        ),
        # Met for real: accuracy .987 -> .04 (transformers 5.14.1, modelopt 0.47.0; examples/traps).
        silently_wrong={"modelopt": _SKIPS},
    ),
    "vllm": Loader(
        loads=frozenset(
            {
                PLAIN,
                "compressed-tensors",
                "modelopt",
                "modelopt-fp4",
                "modelopt-mixed",
                "bitsandbytes",
                "torchao",
                "gptq",
                "awq",
                "auto-round",
                "fp8",
                "fbgemm-fp8",
                "mxfp4",
                "quark",
                "gguf",
            }
        )
    ),
    "sglang": Loader(
        loads=frozenset(
            {
                PLAIN,
                "compressed-tensors",
                "modelopt",
                "modelopt-fp4",
                "bitsandbytes",
                "torchao",
                "gptq",
                "awq",
                "auto-round",
                "fp8",
                "mxfp4",
                "quark",
                "gguf",
            }
        )
    ),
    # Unquantized and weight-only compressed-tensors checkpoints are written as GGUF by the adapter first.
    "llama_cpp": Loader(loads=frozenset({PLAIN, "gguf", "compressed-tensors"})),
}
"""Serve kind → loader. Kinds that are not here run an engine that Assay does not know."""


def check(candidate: Checkpoint, engine: str | None, also_loads: frozenset[str]) -> list[Finding]:
    """Whether the engine that will serve the checkpoint reads it as it is meant.

    Args:
        candidate: its quant_method and schemes.
        engine: serve kind; None = not asked.
        also_loads: quant_methods that the policy vouches for.
    """
    loader = LOADERS.get(engine) if engine else None
    method = candidate.quant_method or PLAIN
    if engine is None:
        return []
    if loader is None:
        return [good(f"note: what {engine} loads is not known here", where=engine)]
    if method in loader.loads or method in also_loads:
        return [good(f"{engine} loads quant_method '{method}'", where=engine)]
    if method in loader.silently_wrong:
        schemes = sorted({m.scheme for m in candidate.modules if m.weight_bits < 16 and len(m.shape) >= 2})
        happens = loader.silently_wrong[method].format(method, "/".join(schemes) or "packed")
        text = f"{engine} {happens}: serve it with an engine that reads {method}, or convert it"
    else:
        text = f"{engine} does not load quant_method '{method}'; it loads: {', '.join(sorted(loader.loads))}"
    return [bad(text, FailureClass.MODEL_UNSUPPORTED, where=engine, measured=method)]
