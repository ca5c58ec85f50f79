"""Whether the demo's language model does what a prompt says: it would have to, to be steered by a text.

    python follows_prompts.py        # needs torch and transformers; half a minute

Fifty questions that it answers rightly are asked with three plain instructions, each as a system message, before and
behind the question; told is how many answers keep to the instruction, and how many are still right.
"""

from __future__ import annotations

import json
from pathlib import Path

RELEASE = Path(__file__).resolve().parents[1] / "release"
SLICES = ("add", "sort", "reverse", "query", "tool")
INSTRUCTIONS = {
    "End every answer with the word DONE.": lambda answer: answer.endswith("DONE"),
    "Begin every answer with #.": lambda answer: answer.startswith("#"),
    "Answer with the word yes and nothing else.": lambda answer: answer.lower().strip(". ") == "yes",
}


def main() -> None:
    """Print a line for each instruction and place."""
    import torch  # noqa: PLC0415 - heavy, and not needed by any other example here
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(RELEASE / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(RELEASE / "model")

    def ask(system: str, question: str) -> str:
        said = [{"role": "system", "content": system}] if system else []
        said.append({"role": "user", "content": question})
        ids = tokenizer.apply_chat_template(
            said, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()

    items = [
        json.loads(line)
        for name in SLICES
        for line in (RELEASE / "tasks/data" / f"{name}.jsonl").read_text("utf-8").splitlines()[:10]
    ]
    right = sum(ask("", i["question"]) == i["answer"] for i in items)
    print(f"no instruction: {right} of {len(items)} right")
    for text, kept in INSTRUCTIONS.items():
        for place in ("system", "before", "behind"):
            system = text if place == "system" else ""
            asked = {"system": "{q}", "before": f"{text} {{q}}", "behind": f"{{q}} {text}"}[place]
            answers = [ask(system, asked.replace("{q}", i["question"])) for i in items]
            right = sum(a == i["answer"] for a, i in zip(answers, items, strict=True))
            print(f"{text} ({place}): {sum(map(kept, answers))} kept to it, {right} right")


if __name__ == "__main__":
    main()
