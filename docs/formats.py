"""The table of checkpoint formats: what the reader tells of each, and on which files that was tested.

Derived from the readers themselves and from the corpus under `tests/known_good`; `docs/build.py` calls `table()`.
"""

from __future__ import annotations

import importlib
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.checkpoint import Checkpoint, ModuleKind
from assay.readers.checkpoint import FORMATS, read_checkpoint
from assay.readers.checkpoint.ggml import TYPES

ROOT = Path(__file__).resolve().parents[1]
FACTS = (
    "scheme",
    "bits",
    "stored bits",
    "group",
    "scales",
    "symmetric",
    "activation",
    "declaration",
    "values",
)
NAMES: Mapping[str, str] = {
    "plain": "BF16, FP16, FP32 (no declaration)",
    "compressed_tensors": "compressed-tensors (all dense `format` values)",
    "modelopt": "ModelOpt (`hf_quant_config.json`, `quantization_config`)",
    "awq": "AutoAWQ (gemm, gemv)",
    "gptq": "GPTQ, GPTQModel, AutoRound",
    "bitsandbytes": "bitsandbytes 4 and 8 bit",
    "torchao": "torchao (safetensors)",
    "fp8": "FP8 of model hubs (blocks, rows, tensors; fbgemm)",
    "mxfp4": "MXFP4 of model hubs (gpt-oss)",
    "quanto": "optimum-quanto",
    "hqq": "HQQ",
    "mlx": "MLX (affine, mxfp4, nvfp4, mxfp8)",
    "gguf": "GGUF",
}
"""Reader → what it is called in the table."""


def table() -> str:
    """The page, as Markdown."""
    corpus = _corpus()
    rows = [
        "# Checkpoint formats\n",
        _preface(),
        f"| format | quant_method | {' | '.join(FACTS)} | real files | header-true files |",
    ]
    rows.append("|" + "---|" * (len(FACTS) + 4))
    for reader, name in NAMES.items():
        methods = _methods(reader)
        real = {n: c for n, (c, made) in corpus.items() if made and _is(c, methods)}
        made_up = {n: c for n, (c, made) in corpus.items() if not made and _is(c, methods)}
        told = [_fact(f, [*real.values(), *made_up.values()]) for f in FACTS]
        spelled = ", ".join(f"`{m}`" for m in methods if m) or "none"
        rows.append(f"| {name} | {spelled} | {' | '.join(told)} | {len(real)} | {len(made_up)} |")
    rows += ["", "## The real files\n", "| file | written by | read as |", "|---|---|---|"]
    rows += [f"| {n} | {case.toolkit} | {case.scheme} |" for n, case in sorted(_cases().REAL.items())]
    return "\n".join([*rows, "", _refused()])


def _preface() -> str:
    return (
        "Precision is told from the bytes (dtype, shape and companions of each weight), and then compared with the "
        "declaration, the recipe and the source. `yes`: a file of the corpus carries the fact and a test holds the "
        "reader to it; `-`: the format has no such thing, or no file here shows it. *declaration*: what the format "
        "claims for a module is compared with what is stored. *values*: a sample of weights is dequantized and "
        "compared with the source.\n"
    )


def _refused() -> str:
    removed = ", ".join(sorted(n for n, *_ in TYPES.values() if n.endswith(("_4_4", "_4_8", "_8_8"))))
    return (
        "## What cannot be judged\n\n"
        "Pickles (`.bin`, `.pt`) are never loaded: save them again as safetensors. A quant_method that is not in the "
        "table ends with exit 2 and the list of those that are. marlin-24 is refused by name; 2:4 sparse "
        "weights are read and pass under no recipe. GGUF of architectures "
        "whose tensor names are not mapped is ERROR, never PASS. ggml types that llama.cpp has removed "
        f"({removed}) are refused.\n"
    )


def _cases() -> Any:
    folder = str(ROOT / "tests" / "known_good" / "checkpoints")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("good_cases")


def _corpus() -> dict[str, tuple[Checkpoint, bool]]:
    """Name → checkpoint, and whether a toolkit wrote it."""
    cases = _cases()
    found: dict[str, tuple[Checkpoint, bool]] = {}
    with tempfile.TemporaryDirectory() as home:
        real = cases.unpack(Path(home) / "real")
        for name in cases.REAL:
            source = real / "source" if name != "source" else None
            found[name] = (read_checkpoint(real / name, source=source, digest_limit_bytes=0), True)
        for name, case in cases.SYNTHETIC.items():
            path = case.candidate(Path(home) / "made" / name)
            found[f"synthetic {name}"] = (read_checkpoint(path, digest_limit_bytes=0), False)
    return found


def _methods(reader: str) -> tuple[str | None, ...]:
    if reader == "gguf":
        return ("gguf",)
    module = next(m for m in FORMATS if m.__name__.rpartition(".")[2] == reader)
    return tuple(dict.fromkeys(m.replace("_", "-") if m else m for m in module.QUANT_METHODS))


def _is(checkpoint: Checkpoint, methods: tuple[str | None, ...]) -> bool:
    return checkpoint.quant_method in methods


def _fact(fact: str, found: list[Checkpoint]) -> str:
    """Whether any file of the corpus shows the fact; the tests under tests/known_good hold them to it."""
    return "yes" if any(_shows(fact, c) for c in found) else "-"


def _shows(fact: str, checkpoint: Checkpoint) -> bool:
    modules = [m for m in checkpoint.modules if m.kind is ModuleKind.LINEAR]
    quantized = [m for m in modules if m.weight_bits < 16]
    if fact in {"scheme", "bits", "stored bits"}:
        return bool(modules) and all(m.scheme and m.weight_bits and m.stored_bits for m in modules)
    if fact == "group":
        return any(m.group_size for m in quantized)
    if fact == "scales":
        inside = checkpoint.format == "gguf"  # every block carries its own
        return any(inside or len(m.tensors) > 1 for m in quantized)
    if fact == "symmetric":
        return bool(quantized)
    if fact == "activation":
        return any(m.activation for m in quantized)
    if fact == "declaration":
        return any(m.declared for m in quantized)
    errors = [m.value for m in checkpoint.measurements if m.name == "weight_error"]
    return any(e is not None and math.isfinite(e) for e in errors)


if __name__ == "__main__":
    print(table())
