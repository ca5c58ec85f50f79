"""How `real.tar.xz` was made: one model of one layer, quantized by each toolkit that runs on a CPU.

The toolkits do not go together in one environment: `make.py KIND OUT` makes what the environment it runs in can
make, into OUT; `make.py pack OUT` packs the folder. The pins are those of `good_cases.REAL`.

    source                            any environment with torch
    compressed-tensors, gguf          src/assay/workers/quantize_*.py, the project's own environment
    llmcompressor, modelopt, auto     torch 2.13.0, transformers 5.14.1, llmcompressor 0.13.0, nvidia-modelopt 0.47.0
    torchao, quanto, hqq              the same with one of the three (together they break transformers' imports)
    bitsandbytes                      transformers 5.23.0; saved before any forward pass
    mlx                               mlx-lm 0.32.2 with mlx[cpu]
"""

# ruff: noqa: PLC0415  (a toolkit is imported where it is used)

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "examples" / "release" / "model"
WORKERS = ROOT / "src" / "assay" / "workers"
COPIED = ("chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
ROWS = 256
"""Of the vocabulary: the highest token that the calibration texts use is 225."""
JOBS: Mapping[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "compressed-tensors": tuple(
        (f"ct-{s}", "quantize_compressed_tensors", {"scheme": s})
        for s in ("W8A8", "W4A16", "W4A16_ASYM", "FP8_DYNAMIC", "NVFP4A16", "MXFP4A16")
    ),
    "gguf": tuple((f"gguf-{t}", "quantize_gguf", {"type": t}) for t in ("Q8_0", "Q4_0")),
    "modelopt": tuple(
        (f"mo-{c}", "quantize_modelopt", {"config": c})
        for c in (
            "FP8",
            "NVFP4",
            "INT4_AWQ",
            "MXFP4",
            "NVFP4_MLP_ONLY",
            "W4A8_AWQ_BETA",
            "FP8_PER_CHANNEL_PER_TOKEN",
        )
    ),
    "llmcompressor": (
        ("llmc-GPTQ-W4A16", "quantize_llmcompressor", {"scheme": "W4A16", "algorithm": "gptq"}),
        ("llmc-AWQ-W4A16_ASYM", "quantize_llmcompressor", {"scheme": "W4A16_ASYM", "algorithm": "awq"}),
        ("llmc-NVFP4", "quantize_llmcompressor", {"scheme": "NVFP4", "algorithm": "rtn"}),
        (
            "llmc-FP8-kv",
            "quantize_llmcompressor",
            {"scheme": "FP8_DYNAMIC", "algorithm": "rtn", "kv_cache": "fp8"},
        ),
    ),
}
"""Kind → name, worker, options."""
CALIBRATED = ("modelopt", "llmcompressor")


def source(out: Path) -> None:
    """The demo model's first layer with 256 rows of vocabulary."""
    from safetensors.torch import load_file, save_file

    home = out / "source"
    home.mkdir(parents=True)
    kept = {}
    for name, tensor in load_file(DEMO / "model.safetensors").items():
        if ".layers." not in name or ".layers.0." in name:
            kept[name] = tensor[:ROWS].clone() if tensor.shape[0] > ROWS else tensor
    save_file(kept, home / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((DEMO / "config.json").read_text()) | {"num_hidden_layers": 1, "vocab_size": ROWS}
    (home / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    _copy(DEMO, home)


def by_worker(kind: str, out: Path) -> None:
    """Through Assay's own workers."""
    rows = out / "calibration.jsonl"
    rng = random.Random(0)
    texts = [" ".join(str(rng.randint(0, 999)) for _ in range(20)) for _ in range(32)]
    rows.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    more = {"calibration_path": str(rows), "calibration_samples": 32} if kind in CALIBRATED else {}
    for name, worker, options in JOBS[kind]:
        job = {"source": str(out / "source"), "out": str(out / name), "result": str(out / f"{name}.result")}
        path = out / f"{name}.job"
        path.write_text(json.dumps(job | {"options": options | more}))
        subprocess.run([sys.executable, str(WORKERS / f"{worker}.py"), str(path)], check=True)


def by_transformers(out: Path, name: str, config: Any) -> None:
    """Through `from_pretrained(quantization_config=...)`, saved at once."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        out / "source", dtype=torch.bfloat16, quantization_config=config, device_map="cpu"
    )
    model.save_pretrained(out / name)
    _copy(out / "source", out / name)


def torchao(out: Path) -> None:
    """Weight-only; `ao-intx4` is four bits in eight, a known bad one."""
    import torch
    from torchao import quantization as q
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    made = {
        "ao-int8wo": q.Int8WeightOnlyConfig(),
        "ao-fp8wo": q.Float8WeightOnlyConfig(),
        "ao-intx4": q.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)),
    }
    for name, config in made.items():
        by_transformers(out, name, TorchAoConfig(config, modules_to_not_convert=["lm_head"]))


def bitsandbytes(out: Path) -> None:
    """LLM.int8() and NF4, without and with nested scales."""
    from transformers import BitsAndBytesConfig

    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    by_transformers(out, "bnb-int8", BitsAndBytesConfig(load_in_8bit=True))
    by_transformers(out, "bnb-nf4", BitsAndBytesConfig(**four))
    by_transformers(out, "bnb-nf4dq", BitsAndBytesConfig(**four, bnb_4bit_use_double_quant=True))


def auto(out: Path) -> None:
    """AutoRound's round-to-nearest in its own layout and in those of AutoGPTQ and AutoAWQ."""
    import torch
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name, form in (("ar-gptq", "auto_gptq"), ("ar-awq", "auto_awq"), ("ar-round", "auto_round")):
        model = AutoModelForCausalLM.from_pretrained(out / "source", dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(out / "source")
        made = AutoRound(
            model, tokenizer, bits=4, group_size=32, sym=name != "ar-awq", iters=0, disable_opt_rtn=True
        )
        made.quantize_and_save(str(out / name), format=form)


def quanto(out: Path) -> None:
    """Through the state dict and `quanto_qmap.json`: transformers cannot save it."""
    import torch
    from optimum import quanto as q
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    for name, weights in (("quanto-int8", q.qint8), ("quanto-int4", q.qint4), ("quanto-fp8", q.qfloat8)):
        model = AutoModelForCausalLM.from_pretrained(out / "source", dtype=torch.bfloat16)
        q.quantize(model, weights=weights, exclude="lm_head")
        q.freeze(model)
        home = out / name
        home.mkdir()
        save_file(
            {k: v.contiguous() for k, v in model.state_dict().items()},
            home / "model.safetensors",
            {"format": "pt"},
        )
        model.config.save_pretrained(home)
        (home / "quanto_qmap.json").write_text(json.dumps(q.quantization_map(model), indent=4))
        _copy(out / "source", home)


def hqq(out: Path) -> None:
    """Through HQQ's own layers: transformers 5 does not know it yet."""
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(out / "source", dtype=torch.bfloat16)
    config = BaseQuantizeConfig(nbits=4, group_size=64)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            parent, _, last = name.rpartition(".")
            made = HQQLinear(layer, config, compute_dtype=torch.bfloat16, device="cpu")
            setattr(model.get_submodule(parent), last, made)
    home = out / "hqq-4"
    home.mkdir()
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        home / "model.safetensors",
        {"format": "pt"},
    )
    block = {"quant_method": "hqq", "quant_config": config, "skip_modules": ["lm_head"]}
    read = json.loads((out / "source" / "config.json").read_text())
    (home / "config.json").write_text(
        json.dumps(read | {"quantization_config": block}, indent=2, default=str)
    )
    _copy(out / "source", home)


def mlx(out: Path) -> None:
    """Affine and MXFP4."""
    from mlx_lm import convert

    for mode, group in (("affine", 64), ("mxfp4", 32)):
        convert(
            str(out / "source"),
            mlx_path=str(out / f"mlx-{mode}"),
            quantize=True,
            q_bits=4,
            q_group_size=group,
            q_mode=mode,
        )


def hub(out: Path) -> None:
    """FP8 with a scale for each block of 128 x 128: transformers makes it on GPUs only, so by hand."""
    import torch
    from safetensors.torch import load_file, save_file

    made = {}
    for name, tensor in load_file(out / "source" / "model.safetensors").items():
        made[name] = tensor
        if "_proj" in name:
            rows = min(128, tensor.shape[0])
            blocks = tensor.float().unflatten(0, (-1, rows)).unflatten(2, (-1, 128))
            scale = blocks.abs().amax((1, 3)) / 448
            codes = (blocks / scale[:, None, :, None]).flatten(2).flatten(0, 1)
            made[name], made[f"{name}_scale_inv"] = (
                codes.to(torch.float8_e4m3fn).contiguous(),
                scale.contiguous(),
            )
    home = out / "hub-fp8"
    home.mkdir()
    save_file(made, home / "model.safetensors", {"format": "pt"})
    block = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    }
    read = json.loads((out / "source" / "config.json").read_text())
    block["modules_to_not_convert"] = ["lm_head"]
    (home / "config.json").write_text(json.dumps(read | {"quantization_config": block}, indent=2))
    _copy(out / "source", home)


def pack(out: Path) -> None:
    """The same bytes whenever it is packed."""
    with tarfile.open(Path(__file__).with_name("real.tar.xz"), "w:xz", preset=9) as archive:
        for path in sorted(
            p for p in out.rglob("*") if p.is_file() and p.parent != out and p.name != "README.md"
        ):
            entry = tarfile.TarInfo(path.relative_to(out).as_posix())
            data = path.read_bytes()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _copy(home: Path, out: Path) -> None:
    """Tokenizer, template and settings byte for byte from the source."""
    for name in COPIED:
        shutil.copyfile(home / name, out / name)


KINDS: Mapping[str, Callable[[Path], None]] = {
    "source": source,
    "torchao": torchao,
    "bitsandbytes": bitsandbytes,
    "auto": auto,
    "quanto": quanto,
    "hqq": hqq,
    "mlx": mlx,
    "hub": hub,
    "pack": pack,
}

if __name__ == "__main__":
    kind_, out_ = sys.argv[1], Path(sys.argv[2]).resolve()
    if kind_ in JOBS:
        by_worker(kind_, out_)
    else:
        KINDS[kind_](out_)
