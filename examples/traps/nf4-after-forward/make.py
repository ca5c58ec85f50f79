"""Write ./checkpoint: bitsandbytes NF4, saved after one forward pass on a CPU with AVX512-BF16.

Needs bitsandbytes 0.50.2, torch 2.13.0, transformers 5.23.0, accelerate, and a CPU whose /proc/cpuinfo has
avx512_bf16: on another CPU nothing is repacked and the files are right, so the script refuses.
With `--measure` it also prints the accuracy in memory before the save, and writes ./before (saved before any
forward, right) to compare; measure the files with `../measure.py checkpoint`, in a process of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "release" / "model"
OUT = HERE / "checkpoint"
COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def save(model: Any, out: Path) -> None:
    """Save the quantized weights and the source's own tokenizer files."""
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out)
    for name in COPIED:
        shutil.copyfile(SOURCE / name, out / name)
    for path in out.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Load with NF4, use the model once, save it."""
    if "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        sys.exit(
            "error: this CPU has no avx512_bf16, so bitsandbytes does not repack and the defect stays away"
        )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(
        SOURCE, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(SOURCE)
    if "--measure" in sys.argv:
        save(model, HERE / "before")
        sys.path.insert(0, str(HERE.parent))
        import measure  # noqa: PLC0415  (only where it is asked for)

        print(json.dumps({"in memory": measure.accuracy(model, tokenizer, measure.load_items())}))
    with torch.no_grad():
        model(**tokenizer("Add 2 and 3.", return_tensors="pt", return_token_type_ids=False))
    save(model, OUT)


if __name__ == "__main__":
    main()
