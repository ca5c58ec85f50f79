"""What the readers of checkpoints and results understand, on which files that was tested, and the tables they judge by.

Derived from the readers themselves and from the corpus under `tests/known_good`; `docs/build.py` calls `page()`,
`recipes()` and `metrics()`.
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
from assay.core.vocabulary import Direction
from assay.gates._checkpoint.intent import LEFT_ALONE, PROTECTED, RECIPES, Intent
from assay.readers.checkpoint import FORMATS, read_checkpoint
from assay.readers.checkpoint.ggml import TYPES
from assay.readers.results.metrics import Metric, shipped_table

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


def page() -> str:
    """The page of formats, as Markdown: checkpoints, then results."""
    return f"# Formats\n\n{_PREFACE}\n{checkpoints()}\n{results()}"


_PREFACE = """What Assay reads, and on which files of the corpus each fact was tested: **real** = a file that the toolkit
or harness wrote on our machine, **synthetic** = a file made after the format's documentation and source (its headers
are true, its weights are empty), `-` = the format has no such thing, or no file here shows it. The tests under
`tests/known_good` hold the readers to every file that is counted here.
"""


def checkpoints() -> str:
    """Checkpoint format and fact: tested on a real file, on a synthetic one, or not there."""
    corpus = _corpus()
    rows = [
        "## Checkpoints\n",
        _CHECKPOINTS,
        f"| format | quant_method | {' | '.join(FACTS)} | real files | synthetic files |",
        "|" + "---|" * (len(FACTS) + 4),
    ]
    for reader, name in NAMES.items():
        methods = _methods(reader)
        real = [c for c, made in corpus.values() if made and c.quant_method in methods]
        made_up = [c for c, made in corpus.values() if not made and c.quant_method in methods]
        told = [_told(f, real, made_up) for f in FACTS]
        spelled = ", ".join(f"`{m}`" for m in methods if m) or "none"
        rows.append(f"| {name} | {spelled} | {' | '.join(told)} | {len(real)} | {len(made_up)} |")
    rows += ["", "### The real files\n", "| file | written by | read as |", "|---|---|---|"]
    real_ones = {n: case for n, case in _cases().REAL.items() if not case.by_hand}
    rows += [f"| {n} | {case.toolkit} | {case.scheme} |" for n, case in sorted(real_ones.items())]
    rows += [
        "",
        "### Written without an error, and refused\n",
        "| file | why | the verdict says |",
        "|---|---|---|",
    ]
    bad = _module("known_bad/checkpoints", "bad_cases").REAL_BAD
    rows += [f"| {n} | {case.why} | {case.failure.value}: {case.words} |" for n, case in sorted(bad.items())]
    return "\n".join([*rows, "", _refused()])


_CHECKPOINTS = """Precision is told from the bytes (dtype, shape and companions of each weight), and then compared with
the declaration, the recipe and the source. *declaration*: what the format claims for a module is compared with what is
stored. *values*: a sample of weights is dequantized and compared with the source.
"""


def results() -> str:
    """Harness and fact, the same way; the corpus of results has its own table."""
    return "\n".join(["## Results\n", _RESULTS, _module("known_bad/results", "results_corpus").table(), ""])


_RESULTS = """`assay show-results PATH` prints what is found; `--harness NAME` forces a reader. *rows*: an outcome a
sample; *prompt*, *output*: digests, to pair by and to find equal answers; *cluster*: rows that are not independent.
Two files that people write themselves are read as well, marked self-reported: `{task: score}` and a run summary.
"""


def recipes() -> str:
    """The recipe table, as Markdown."""
    rows = [
        "# Recipes\n",
        _RECIPES,
        "| recipe | its linears end as | which | left alone |",
        "|---|---|---|---|",
    ]
    named: dict[Intent, list[str]] = {}
    for name, intent in RECIPES.items():
        named.setdefault(intent.model_copy(update={"recipe": ""}), []).append(name)
    rows += [_recipe(intent, names) for intent, names in named.items()]
    protected, optional = (", ".join(f"`{p}`" for p in patterns) for patterns in (PROTECTED, LEFT_ALONE))
    rows += [
        "",
        f"Never quantized unasked (`protect`): {protected}.\n",
        f"May stay as they are (`optional`): {optional}.",
    ]
    return "\n".join([*rows, ""])


_RECIPES = """A recipe is a promise: which modules end in which precision, and which stay as they are. The checkpoint
gate compares the bytes with it. Names are case-blind, `-` counts as `_`; the name of a precision (`NVFP4`, `INT4`,
`Q4_K`) is a recipe for all linears. `from-declaration` judges a checkpoint against its own declaration.

Recipes of your own go into a YAML file, for `assay inspect --recipe-table FILE --recipe mine`, or under
`checkpoint: {recipes: ...}` in a spec. They win over this table, and may build on a recipe of it:

```yaml
schema: recipes/1
recipes:
  mine:   {recipe: fp8, ignore: [lm_head, "*.layers.0.*"]}      # a recipe of the table, with another ignore list
  ours:   {schemes: [NVFP4, FP8], targets: ["*.mlp.*"]}         # any of these precisions is kept
  theirs: {num_bits: 4, group_size: 32, protect: []}            # even the vision tower
```

Keys: `recipe` or `scheme` or `num_bits` (with `weight_type: int | float`), `schemes`, `targets`, `ignore`, `optional`,
`protect`, `group_size`. A pattern is a module's name, its last part, a shell wildcard, `re:PATTERN`, or `Linear`.
"""


def _recipe(intent: Intent, names: list[str]) -> str:
    schemes = " or ".join(intent.schemes[:3]) + (", ..." if len(intent.schemes) > 3 else "")
    if intent.from_declaration:
        schemes = "what is declared"
    which = (
        ", ".join("all linears" if t == "Linear" else f"`{t}`" for t in intent.targets)
        if intent.schemes
        else ""
    )
    alone = (
        [f"`{p}`" for p in intent.ignore]
        if intent.schemes
        else ["everything"] * (not intent.from_declaration)
    )
    alone += [f"free: {kind.value}" for kind in intent.free_kinds]
    return f"| {', '.join(f'`{n}`' for n in names)} | {schemes or 'as they were'} | {which} | {', '.join(alone)} |"


def metrics() -> str:
    """The metric table, as Markdown."""
    rows = ["# Metrics\n", _METRICS, "| task | metric | unit | range | better | samples | judge | flips |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    rows += [_metric(row) for row in shipped_table().metrics]
    return "\n".join([*rows, ""])


_METRICS = """What a score means: its range, which end of it is good, how many samples a complete run has, whether a
judge decides, and the share of answers that an equally good model changes (for planning). The first row that fits is
taken; patterns are shell patterns over task and metric, case-blind. What no row knows is inferred from the score itself
(0..1, else 0..100), and every report says so.

A table of your own is laid over this one: `--metric-table FILE` of `assay show-results` and `assay gate`, or
`metric_table: FILE` under `evaluate:` in a spec.

```yaml
schema: metrics/1
metrics:
  - {task: "ours_*", metric: toxicity, unit: share, low: 0, high: 1, direction: lower, samples: 500, judge: true}
```
"""


def _metric(row: Metric) -> str:
    span = "open" if row.low is None or row.high is None else f"{row.low:g}..{row.high:g}"
    better = "lower" if row.direction is Direction.LOWER else "higher"
    many = "" if row.samples is None else str(row.samples) + (f" x {row.repeats}" if row.repeats else "")
    flips = "" if row.planning_flip_rate is None else f"{row.planning_flip_rate:g}"
    task = "" if row.task == "*" else f"`{row.task}`"
    cells = (task, f"`{row.metric}`", row.unit, span, better, many, "yes" if row.judge else "", flips)
    return f"| {' | '.join(cells)} |"


def _refused() -> str:
    removed = ", ".join(sorted(n for n, *_ in TYPES.values() if n.endswith(("_4_4", "_4_8", "_8_8"))))
    return (
        "### What cannot be judged\n\n"
        "Pickles (`.bin`, `.pt`) are never loaded: save them again as safetensors. A quant_method that is not in the "
        "table ends with exit 2 and the list of those that are. marlin-24 is refused by name; 2:4 sparse "
        "weights are read and pass under no recipe. GGUF of architectures "
        "whose tensor names are not mapped is ERROR, never PASS. ggml types that llama.cpp has removed "
        f"({removed}) are refused.\n"
    )


def _cases() -> Any:
    return _module("known_good/checkpoints", "good_cases")


def _module(folder: str, name: str) -> Any:
    """A module of the corpus, which is no package."""
    place = str(ROOT / "tests" / folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(name)


def _corpus() -> dict[str, tuple[Checkpoint, bool]]:
    """Name → checkpoint, and whether a toolkit wrote it."""
    cases = _cases()
    found: dict[str, tuple[Checkpoint, bool]] = {}
    with tempfile.TemporaryDirectory() as home:
        real = cases.unpack(Path(home) / "real")
        for name, case in cases.REAL.items():
            source = real / case.source if case.method else None
            read = read_checkpoint(real / name, source=source, digest_limit_bytes=0)
            found[name] = (read, not case.by_hand)
        for name, case in cases.SYNTHETIC.items():
            path = case.candidate(Path(home) / "made" / name)
            found[f"synthetic {name}"] = (read_checkpoint(path, digest_limit_bytes=0), False)
    return found


def _methods(reader: str) -> tuple[str | None, ...]:
    if reader == "gguf":
        return ("gguf",)
    module = next(m for m in FORMATS if m.__name__.rpartition(".")[2] == reader)
    return tuple(dict.fromkeys(m.replace("_", "-") if m else m for m in module.QUANT_METHODS))


def _told(fact: str, real: list[Checkpoint], made_up: list[Checkpoint]) -> str:
    if any(_shows(fact, c) for c in real):
        return "real"
    return "synthetic" if any(_shows(fact, c) for c in made_up) else "-"


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
    print(page())
