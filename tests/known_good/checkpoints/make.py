"""How `real.tar.xz` was made: one model of one layer, quantized by each toolkit that runs on a CPU.

The toolkits do not go together in one environment: `make.py KIND OUT` makes what the environment it runs in can
make, into OUT; `make.py pack OUT` packs the folder. What begins with `bad-` a toolkit wrote without an error, and it
must be refused. The pins are those of `good_cases.REAL`.

    source, sources                   any environment with torch and transformers
    compressed-tensors, gguf, kquants src/assay/workers/quantize_*.py, the project's own environment
    llmcompressor, modelopt, auto     torch 2.13.0, transformers 5.14.1, llmcompressor 0.13.0, nvidia-modelopt 0.47.0
    modelopt-by-hand                  the same
    torchao, quanto, hqq              the same with one of the three (together they break transformers' imports)
    gptqmodel                         gptqmodel 7.7.0 (BUILD_CUDA_EXT=0) beside them
    bitsandbytes                      transformers 5.23.0; saved before any forward pass
    mlx                               mlx-lm 0.32.2 with mlx[cpu]
"""

# ruff: noqa: PLC0415  (a toolkit is imported where it is used)

from __future__ import annotations

import io
import json
import os
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
_CT, _LLMC, _MODELOPT = (f"quantize_{k}" for k in ("compressed_tensors", "llmcompressor", "modelopt"))
_FP8_RTN = {"scheme": "FP8_DYNAMIC", "algorithm": "rtn"}
_SCHEMES = ("W8A8", "W4A16", "W4A16_ASYM", "FP8_DYNAMIC", "NVFP4A16", "MXFP4A16", "FP8_BLOCK", "MXFP8A16")
_CONFIGS = (
    "FP8", "NVFP4", "INT4_AWQ", "MXFP4", "NVFP4_MLP_ONLY", "W4A8_AWQ_BETA", "FP8_PER_CHANNEL_PER_TOKEN",
    "FP8_2D_BLOCKWISE_WEIGHT_ONLY", "INT8_SMOOTHQUANT", "INT8_WEIGHT_ONLY", "MXFP8", "W4A8_NVFP4_FP8",
    "W4A8_MXFP4_FP8", "W4A16_NVFP4",
)  # fmt: skip
JOBS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "compressed-tensors": (
        *((f"ct-{s}", _CT, {"scheme": s}) for s in _SCHEMES),
        ("bad-mtp-lost", _CT, {"scheme": "FP8_DYNAMIC"}, "source-mtp"),
        ("bad-experts-skipped", _CT, {"scheme": "FP8_DYNAMIC"}, "source-moe"),
    ),
    "gguf": tuple((f"gguf-{t}", "quantize_gguf", {"type": t}) for t in ("Q8_0", "Q4_0")),
    "modelopt": (
        *((f"mo-{c}", _MODELOPT, {"config": c}) for c in _CONFIGS),
        *((f"moe-mo-{c}", _MODELOPT, {"config": c}, "source-moe") for c in ("FP8", "NVFP4")),
    ),
    "llmcompressor": (
        ("llmc-GPTQ-W4A16", _LLMC, {"scheme": "W4A16", "algorithm": "gptq"}),
        ("llmc-AWQ-W4A16_ASYM", _LLMC, {"scheme": "W4A16_ASYM", "algorithm": "awq"}),
        ("llmc-NVFP4", _LLMC, {"scheme": "NVFP4", "algorithm": "rtn"}),
        ("llmc-FP8-kv", _LLMC, _FP8_RTN | {"kv_cache": "fp8"}),
        ("moe-llmc-FP8", _LLMC, _FP8_RTN, "source-moe"),
        ("bad-head-dropped", _LLMC, _FP8_RTN, "source-same"),
    ),
}
"""Kind → name, worker, options, and the source where it is not `source`."""
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


def tiled(shape: tuple[int, ...], seed: int) -> Any:
    """A weight of one random tile over and over: it quantizes like any other and packs to nothing."""
    import torch

    tile = torch.randn(min(32, shape[0]), min(256, shape[-1]), generator=torch.Generator().manual_seed(seed))
    times = [-(-side // step) for side, step in zip(shape, tile.shape, strict=True)]
    return (0.05 * tile.repeat(times)[: shape[0], : shape[1]]).to(torch.bfloat16)


def wide(out: Path) -> None:
    """The source for super-blocks of 256: a Llama of one layer whose rows they divide."""
    _saved(out / "source-wide", "llama", {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64})


def moe(out: Path) -> None:
    """The source with experts: a Qwen3-MoE of two layers with four experts each; and one whose head is its embedding."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 64, "head_dim": 32}
    more = {"num_hidden_layers": 2, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1}
    _saved(out / "source-moe", "qwen3_moe", sizes | more)
    _saved(out / "source-same", "llama", {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32})
    _retensored(out / "source-same", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()})


def mtp(out: Path) -> None:
    """The source with a layer for multi-token prediction beside the model, as Qwen3-Next stores it."""
    shutil.copytree(out / "source", out / "source-mtp")
    names = ("self_attn.o_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm")
    layer = {f"mtp.layers.0.{n}.weight": f"model.layers.0.{n}.weight" for n in names}
    _retensored(out / "source-mtp", lambda t: t | {n: t[of].clone() for n, of in layer.items()})


def vlm(out: Path) -> None:
    """The source with a vision tower: a LLaVA of one text layer and one CLIP layer."""
    import torch
    from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig

    tower = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=ROWS, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4
    )
    config = LlavaConfig(
        vision_config=tower, text_config=text, image_token_index=255, vision_feature_layer=-1
    )
    model = AutoModelForImageTextToText.from_config(config).to(torch.bfloat16)
    _fill(model)
    model.save_pretrained(out / "source-vlm")
    _copy(DEMO, out / "source-vlm")


def sources(out: Path) -> None:
    """All sources but the first."""
    for made in (wide, moe, mtp, vlm):
        made(out)


def _retensored(home: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    path = home / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def _fill(model: Any) -> None:
    import torch

    for seed, weight in enumerate(w for w in model.parameters() if w.ndim > 1):
        with torch.no_grad():
            rows = weight.numel() // weight.shape[-1]
            weight.copy_(tiled((rows, weight.shape[-1]), seed).reshape(weight.shape))


def _saved(home: Path, kind: str, fields: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    base = {"vocab_size": ROWS, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    base |= {"max_position_embeddings": 512, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
    config = AutoConfig.for_model(kind, **base | fields, dtype="bfloat16", tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    _fill(model)
    model.save_pretrained(home)
    _copy(DEMO, home)


MIXTURES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Q2_K": ("Q2_K", {"attn_v": "Q4_K", "ffn_down": "Q3_K", "attn_output": "Q3_K", "output": "Q6_K"}),
    "Q3_K_M": ("Q3_K", {"attn_v": "Q5_K", "ffn_down": "Q5_K", "attn_output": "Q4_K", "output": "Q6_K"}),
    "Q4_K_M": ("Q4_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K", "output": "Q6_K"}),
    "Q5_K_M": ("Q5_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K", "output": "Q6_K"}),
    "IQ4_XS": ("IQ4_XS", {"attn_v": "Q5_K", "ffn_down": "Q5_K", "output": "Q6_K"}),
    "IQ3_S": ("IQ3_S", {"output": "Q6_K"}),
    "IQ4_NL": ("IQ4_NL", {"output": "Q6_K"}),
}
"""Preset → type of the weights, and those that get another (llama.cpp, `llama_tensor_get_type`)."""
FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""For rows that 256 does not divide (llama.cpp, the same file)."""


def kquants(out: Path) -> None:
    """By llama.cpp's own quantizer, which xllamacpp exports; which tensor gets which type is its table, copied."""
    import ctypes
    import importlib.util

    folder = Path(importlib.util.find_spec("xllamacpp").origin).parent
    ggml = ctypes.CDLL(str(folder / "xllamacpp.abi3.so"))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    for preset in MIXTURES:
        _mixture(out, "source-wide", f"gguf-{preset}", preset, ggml)
    _mixture(out, "source", "gguf-Q4_K_M-fallback", "Q4_K_M", ggml)


def _mixture(out: Path, source_: str, name: str, preset: str, ggml: Any) -> None:
    import ctypes

    import gguf
    import numpy as np

    plain = out / f"{name}.plain"
    job = {"source": str(out / source_), "out": str(plain), "result": str(out / f"{name}.result")}
    path = out / f"{name}.job"
    path.write_text(json.dumps(job | {"options": {"type": "F32"}}))
    subprocess.run([sys.executable, str(WORKERS / "quantize_gguf.py"), str(path)], check=True)
    reader = gguf.GGUFReader(plain / "model.gguf")
    shutil.copytree(plain, out / name, ignore=shutil.ignore_patterns("*.gguf"))
    writer = gguf.GGUFWriter(out / name / "model.gguf", "llama")
    for key, entry in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kinds = {
                "val_type": entry.types[0],
                "sub_type": entry.types[-1] if len(entry.types) > 1 else None,
            }
            value = entry.contents()
            if key == "general.file_type":
                value = int(gguf.LlamaFileType[f"MOSTLY_{preset}"])
            writer.add_key_value(key, value, kinds["val_type"], kinds["sub_type"])
    usual, others = MIXTURES[preset]
    for tensor in reader.tensors:
        data = np.ascontiguousarray(tensor.data, np.float32)
        if data.ndim < 2:
            writer.add_tensor(tensor.name, data)
            continue
        stem = tensor.name.removesuffix(".weight").rpartition(".")[2]
        kind = others.get(stem, usual)
        kind = FALLBACKS.get(kind, kind) if data.shape[1] % 256 else kind
        form = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[form]
        codes = np.zeros((data.shape[0], data.shape[1] // block * size), np.uint8)
        pointers = (data.ctypes.data_as(ctypes.c_void_p), codes.ctypes.data_as(ctypes.c_void_p))
        written = ggml.ggml_quantize_chunk(
            int(form),
            *pointers,
            ctypes.c_int64(0),
            ctypes.c_int64(len(data)),
            ctypes.c_int64(data.shape[1]),
            None,
        )
        assert written == codes.nbytes
        writer.add_tensor(tensor.name, codes, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.rmtree(plain)


def calibration(out: Path) -> Path:
    """Texts for toolkits that calibrate."""
    rows = out / "calibration.jsonl"
    rng = random.Random(0)
    texts = [" ".join(str(rng.randint(0, 999)) for _ in range(20)) for _ in range(32)]
    rows.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return rows


def by_worker(kind: str, out: Path) -> None:
    """Through Assay's own workers."""
    rows = {"calibration_path": str(calibration(out)), "calibration_samples": 32}
    more = rows if kind in CALIBRATED else {}
    for name, worker, options, *of in JOBS[kind]:
        home = out / (of[0] if of else "source")
        job = {"source": str(home), "out": str(out / name), "result": str(out / f"{name}.result")}
        path = out / f"{name}.job"
        path.write_text(json.dumps(job | {"options": options | more}))
        subprocess.run([sys.executable, str(WORKERS / f"{worker}.py"), str(path)], check=True)


def by_transformers(out: Path, name: str, config: Any, source_: str = "source") -> None:
    """Through `from_pretrained(quantization_config=...)`, saved at once."""
    import torch
    import transformers

    kind = transformers.AutoModelForCausalLM
    if source_ == "source-vlm":
        kind = transformers.AutoModelForImageTextToText
    model = kind.from_pretrained(
        out / source_, dtype=torch.bfloat16, quantization_config=config, device_map="cpu"
    )
    model.save_pretrained(out / name)
    _copy(out / source_, out / name)


def torchao(out: Path) -> None:
    """`ao-intx4` is four bits in eight, a known bad one."""
    import torch
    from torchao import quantization as q
    from torchao.prototype.mx_formats import MXDynamicActivationMXWeightConfig, NVFP4WeightOnlyConfig
    from torchao.quantization.granularity import PerGroup
    from transformers import TorchAoConfig

    made = {
        "ao-int8wo": q.Int8WeightOnlyConfig(),
        "ao-int8da": q.Int8DynamicActivationInt8WeightConfig(version=2),
        "ao-fp8wo": q.Float8WeightOnlyConfig(),
        "ao-intx4": q.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)),
        "ao-nvfp4": NVFP4WeightOnlyConfig(),
        "ao-mxfp8": MXDynamicActivationMXWeightConfig(),
    }
    for name, config in made.items():
        by_transformers(out, name, TorchAoConfig(config, modules_to_not_convert=["lm_head"]))


def bitsandbytes(out: Path) -> None:
    """LLM.int8(), FP4, and NF4 without and with nested scales."""
    from transformers import BitsAndBytesConfig

    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    by_transformers(out, "bnb-int8", BitsAndBytesConfig(load_in_8bit=True))
    by_transformers(out, "bnb-fp4", BitsAndBytesConfig(**four | {"bnb_4bit_quant_type": "fp4"}))
    by_transformers(out, "bnb-nf4", BitsAndBytesConfig(**four))
    by_transformers(out, "bnb-nf4dq", BitsAndBytesConfig(**four, bnb_4bit_use_double_quant=True))
    by_transformers(out, "bad-tower-quantized", BitsAndBytesConfig(**four), "source-vlm")
    by_transformers(out, "bad-experts-skipped-nf4", BitsAndBytesConfig(**four), "source-moe")


def modelopt_by_hand(out: Path) -> None:
    """What Assay's worker refuses or does not load: experts-only on a model without experts, and a vision model."""
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    os.environ["MODELOPT_SKIP_WEIGHT_QUANT_CHECK"] = "1"  # 0.47 refuses what older ones exported in silence
    ids = torch.arange(2, 66).reshape(1, -1)
    for name, source_, kind, config in (
        ("bad-experts-only-on-dense", "source", AutoModelForCausalLM, mtq.NVFP4_EXPERTS_ONLY_CFG),
        ("vlm-mo-FP8", "source-vlm", AutoModelForImageTextToText, mtq.FP8_DEFAULT_CFG),
        ("vlm-mo-NVFP4", "source-vlm", AutoModelForImageTextToText, mtq.NVFP4_DEFAULT_CFG),
    ):
        model = kind.from_pretrained(out / source_, dtype=torch.bfloat16)
        with torch.inference_mode():
            model = mtq.quantize(model, config, lambda m: m(input_ids=ids))
            export_hf_checkpoint(model, export_dir=str(out / name))
        _copy(out / source_, out / name)


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


def gptqmodel(out: Path) -> None:
    """GPTQ with 3, 4 and 8 bits, the second layout with activation order, bits by module; and AWQ."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    from gptqmodel import GPTQModel, QuantizeConfig
    from gptqmodel.quantization import FORMAT, METHOD

    texts = [json.loads(line)["text"] for line in calibration(out).read_text().splitlines()]
    for name, options in (
        ("gm-4", {"bits": 4, "group_size": 32}),
        ("gm-3", {"bits": 3, "group_size": 128}),
        ("gm-8", {"bits": 8, "group_size": 64}),
        ("gm-v2-act", {"bits": 4, "group_size": 32, "desc_act": True, "format": FORMAT.GPTQ_V2}),
        (
            "gm-dynamic",
            {"bits": 4, "group_size": 32, "dynamic": {"+:.*down_proj": {"bits": 8}, "-:.*q_proj": {}}},
        ),
        ("gm-awq", {"bits": 4, "group_size": 32, "method": METHOD.AWQ, "format": FORMAT.GEMM}),
    ):
        model = GPTQModel.load(str(out / "source"), QuantizeConfig(**options), device="cpu")
        model.quantize(texts, batch_size=1)
        model.save(str(out / name))
        _copy(out / "source", out / name)


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

    for bits in (8, 4, 3, 2):
        model = AutoModelForCausalLM.from_pretrained(out / "source", dtype=torch.bfloat16)
        config = BaseQuantizeConfig(nbits=bits, group_size=64)
        for name, layer in list(model.named_modules()):
            if isinstance(layer, torch.nn.Linear) and name != "lm_head":
                parent, _, last = name.rpartition(".")
                made = HQQLinear(layer, config, compute_dtype=torch.bfloat16, device="cpu")
                setattr(model.get_submodule(parent), last, made)
        home = out / f"hqq-{bits}"
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
    """Affine with 4 and 8 bits, the micro-scaled floats, and a recipe of mixed bits."""
    from mlx_lm import convert

    for name, bits, group, mode in (
        ("affine", 4, 64, "affine"),
        ("affine8", 8, 32, "affine"),
        ("mxfp4", 4, 32, "mxfp4"),
        ("mxfp8", 8, 32, "mxfp8"),
        ("nvfp4", 4, 16, "nvfp4"),
    ):
        convert(
            str(out / "source"),
            mlx_path=str(out / f"mlx-{name}"),
            quantize=True,
            q_bits=bits,
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
            p for p in out.rglob("*") if p.is_file() and p.parent != out and p.suffix not in {".md", ".csv"}
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
    "sources": sources,
    "kquants": kquants,
    "modelopt-by-hand": modelopt_by_hand,
    "torchao": torchao,
    "bitsandbytes": bitsandbytes,
    "auto": auto,
    "gptqmodel": gptqmodel,
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
