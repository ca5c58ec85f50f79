"""Write ./checkpoint: static FP8 files whose tokenizer.json remembers how the calibration rows were cut.

Needs llmcompressor 0.13.0, torch 2.13.0, transformers 5.14.1, datasets. Runs in about 20 s on a CPU.
The lines are those of the usual recipe: tokenize with `truncation=True, max_length=64`, quantize, then save
the model and the tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "release" / "model"
CALIBRATION = HERE.parent.parent / "release" / "tasks" / "calibration.jsonl"
OUT = HERE / "checkpoint"
MAX_LENGTH_TOKENS = 64


def main() -> None:
    """Calibrate, quantize, and save the tokenizer object that did the calibration."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(SOURCE)
    model = AutoModelForCausalLM.from_pretrained(SOURCE, dtype="auto").eval()
    rows = [json.loads(line)["messages"] for line in CALIBRATION.read_text().splitlines()]
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in rows]
    encoded = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=MAX_LENGTH_TOKENS)
    data = Dataset.from_dict({"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask})
    recipe = QuantizationModifier(targets="Linear", scheme="FP8", ignore=["lm_head"])
    oneshot(
        model=model,
        recipe=recipe,
        dataset=data,
        tokenizer=tokenizer,
        num_calibration_samples=len(rows),
        max_seq_length=MAX_LENGTH_TOKENS,
        shuffle_calibration_samples=False,
    )
    shutil.rmtree(OUT, ignore_errors=True)
    model.save_pretrained(OUT, save_compressed=True)
    tokenizer.save_pretrained(OUT)
    for path in OUT.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
