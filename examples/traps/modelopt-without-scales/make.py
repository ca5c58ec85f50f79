"""Write ./checkpoint: a ModelOpt FP8 export, which stock transformers loads without its scales.

Needs nvidia-modelopt 0.47.0, requests, torch 2.13.0, transformers 5.14.1. Runs in about 20 s on a CPU.
With `--measure` it also prints the accuracy of the fake-quantized model in memory; measure the files with
`../measure.py checkpoint`, in a process of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "release" / "model"
CALIBRATION = HERE.parent.parent / "release" / "tasks" / "calibration.jsonl"
OUT = HERE / "checkpoint"
COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def main() -> None:
    """Calibrate, quantize and export, then lay the source's own tokenizer files beside the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(SOURCE)
    rows = [json.loads(line) for line in CALIBRATION.read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(SOURCE, dtype="auto").eval()

    def calibrate(model: Any) -> None:
        for row in rows:
            text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
            model(
                **tokenizer(text, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
            )

    with torch.no_grad():
        model = mtq.quantize(model, mtq.FP8_DEFAULT_CFG, calibrate)
    if "--measure" in sys.argv:
        sys.path.insert(0, str(HERE.parent))
        import measure  # noqa: PLC0415  (only where it is asked for)

        print(json.dumps({"in memory": measure.accuracy(model, tokenizer, measure.load_items())}))
    shutil.rmtree(OUT, ignore_errors=True)
    with torch.inference_mode():
        export_hf_checkpoint(model, export_dir=OUT)
    for name in COPIED:
        shutil.copyfile(SOURCE / name, OUT / name)
    for path in OUT.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
