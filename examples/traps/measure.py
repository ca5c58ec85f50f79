"""Accuracy of one checkpoint folder, loaded as it lies on disk by this fresh process.

Run it with the interpreter of the toolkit whose files are to be loaded::

    PYTHON measure.py nf4-after-forward/checkpoint

Prints one JSON line: exact match per slice over the 2,100 items of ../release/tasks/data, greedy, batch 350.
The chat template and the tokenizer are those of the checkpoint, so a defect in them counts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ITEMS = Path(__file__).parent.parent / "release" / "tasks" / "data"


def load_items() -> list[dict[str, str]]:
    """Every item of every slice, each with `slice`, `question` and `answer`."""
    lines = (line for path in sorted(ITEMS.glob("*.jsonl")) for line in path.read_text().splitlines())
    return [json.loads(line) for line in lines]


def accuracy(
    model: Any, tokenizer: Any, items: list[dict[str, str]], batch_size: int = 350
) -> dict[str, float]:
    """Exact match by slice, and over all under the key `all`."""
    import torch  # noqa: PLC0415  (after the environment is set)

    right: dict[str, list[bool]] = {}
    items = sorted(items, key=lambda item: (item["slice"], len(item["question"])))
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": item["question"]}], tokenize=False, add_generation_prompt=True
            )
            for item in batch
        ]
        encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            output = model.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
                max_new_tokens=32,
                do_sample=False,
            )
        new = tokenizer.batch_decode(output[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)
        for item, text in zip(batch, new, strict=True):
            right.setdefault(item["slice"], []).append(text == item["answer"])
    result = {name: sum(values) / len(values) for name, values in right.items()}
    result["all"] = sum(sum(values) for values in right.values()) / len(items)
    return {name: round(value, 4) for name, value in result.items()}


def main() -> None:
    """Load the folder named on the command line and print its accuracy."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCHDYNAMO_DISABLE": "1"})
    import torch  # noqa: PLC0415  (after the environment is set)
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    folder = Path(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map="cpu").eval()
    result = accuracy(model, AutoTokenizer.from_pretrained(folder), load_items())
    print(json.dumps({"checkpoint": str(folder), "accuracy": result}))


if __name__ == "__main__":
    main()
