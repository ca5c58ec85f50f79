"""Write ./checkpoint: scheme W4A8 of llm-compressor, whose 4-bit weights take a byte each on disk.

Needs llmcompressor 0.13.0, torch 2.13.0, transformers 5.14.1. Data-free; runs in about 10 s on a CPU.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "release" / "model"
OUT = HERE / "checkpoint"
COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def main() -> None:
    """Quantize by the name W4A8, the head left alone."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(SOURCE, dtype="auto").eval()
    oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme="W4A8", ignore=["lm_head"]))
    shutil.rmtree(OUT, ignore_errors=True)
    model.save_pretrained(OUT, save_compressed=True)
    for name in COPIED:
        shutil.copyfile(SOURCE / name, OUT / name)
    for path in OUT.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
