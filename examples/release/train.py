"""Train the example's language model: 541,568 parameters in five minutes on one CPU thread.

`python train.py --out model` needs torch, transformers and tokenizers. Progress goes to stdout, one JSON
object a line: `{"step", "steps", "loss", "tokens_per_s", "accuracy": {slice: share}, "message"}`, where what
is not known yet is null. The same seed gives the same bytes on the same machine with the same number of
threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # spinning threads make a step 5-10 x slower on a busy machine

import skills
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT_TOKENS = 128
ANSWER_TOKENS = 32
REPORT_EVERY, EVALUATE_EVERY, EVALUATE_ITEMS = 20, 200, 40
Encoded = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out. The mix gives the slow skill, `add`, the most practice."""

    seed: int = 0
    steps: int = 3200
    threads: int = 1
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    vocabulary: int = 384
    hidden: int = 128
    layers: int = 3
    ffn: int = 256
    heads: int = 4
    kv_heads: int = 2
    mix: Mapping[str, int] = field(
        default_factory=lambda: {"add": 7, "sort": 2, "reverse": 3, "query": 1, "tool": 1, "facts": 3}
    )

    def learning_rate_share(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE that keeps every digit a token of its own, learned from questions to train on."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    corpus = islice(skills.training_items(dict.fromkeys(skills.SLICES, 1), seed=0), 6000)
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, END, SYSTEM, USER, ASSISTANT],
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{item.question} {item.answer}" for item in corpus), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with untied embeddings, in float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.ffn,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


class Encoder:
    """Items as token ids; never through the tokenizer's own padding, which would stay in its file."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self.pad, self.end, self._user, self._assistant = tokenizer.convert_tokens_to_ids(
            [PAD, END, USER, ASSISTANT]
        )

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def encode(self, item: skills.Item) -> Encoded:
        """Prompt and answer, as the chat template writes them."""
        prompt = [self._user, *self._ids(item.question), self.end, self._assistant]
        return prompt, [*self._ids(item.answer), self.end]

    def answer(self, ids: Sequence[int]) -> str:
        """The text up to the end token."""
        end = ids.index(self.end) if self.end in ids else len(ids)
        return self._tokenizer.decode(
            ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def answer_loss(model: LlamaForCausalLM, batch: Sequence[Encoded], pad: int) -> torch.Tensor:
    """Summed cross entropy of the answer tokens [nats]; no mask, since padding stands to the right."""
    length = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.tensor([(p + a + [pad] * length)[:length] for p, a in batch])
    is_answer = torch.tensor(
        [([0] * len(p) + [1] * len(a) + [0] * length)[1:length] for p, a in batch]
    ).bool()
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden[is_answer]), ids[:, 1:][is_answer], reduction="sum"
    )


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, encoder: Encoder, items: Sequence[skills.Item]) -> dict[str, float]:
    """Share of exact answers by slice, greedy."""
    model.eval()
    right: dict[str, list[bool]] = {}
    ordered = sorted(items, key=lambda item: (item.slice, len(item.question)))
    for start in range(0, len(ordered), 240):
        part = ordered[start : start + 240]
        prompts = [encoder.encode(item)[0] for item in part]
        length = max(map(len, prompts))
        ids = torch.tensor([[encoder.pad] * (length - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=encoder.pad,
            eos_token_id=encoder.end,
        )
        for item, answer in zip(part, out[:, length:].tolist(), strict=True):
            right.setdefault(item.slice, []).append(encoder.answer(answer) == item.answer)
    model.train()
    return {name: sum(right[name]) / len(right[name]) for name in skills.SLICES if name in right}


def optimizer_of(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves norms alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def buckets(batch: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """A batch as a short and a long part: two thirds of the padding go."""
    for long in (False, True):
        part = [pair for pair in batch if (len(pair[0]) + len(pair[1]) > 23) is long]
        if part:
            yield part


class Progress:
    """Writes the progress lines. Speed is over the training steps alone, without the evaluations."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.accuracy: dict[str, float] | None = None
        self.loss: float | None = None
        self.tokens = 0
        self.train_s = 0.0

    def write(self, step: int, message: str) -> None:
        """One line."""
        line = {
            "step": step,
            "steps": self._steps,
            "loss": self.loss,
            "tokens_per_s": self.tokens / self.train_s if self.train_s else None,
            "accuracy": self.accuracy,
            "message": message,
        }
        print(json.dumps(line), flush=True)


def train(
    recipe: Recipe, model: LlamaForCausalLM, encoder: Encoder, progress: Progress
) -> list[dict[str, Any]]:
    """Train in place; returns what was seen on the way.

    The accuracies on the way are for people to watch: no choice rests on them, so that the test stays a test.
    """
    optimizer = optimizer_of(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.learning_rate_share)
    items, watched = skills.training_items(recipe.mix, recipe.seed), skills.suite_items(EVALUATE_ITEMS)
    history: list[dict[str, Any]] = []
    recent: list[float] = []
    model.train()
    for step in range(1, recipe.steps + 1):
        start = time.monotonic()
        batch = [encoder.encode(item) for item in islice(items, recipe.batch)]
        answers = sum(len(answer) for _, answer in batch)
        total = 0.0
        for part in buckets(batch):
            loss = answer_loss(model, part, encoder.pad) / answers
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent = [*recent, total][-REPORT_EVERY:]
        progress.tokens += sum(len(prompt) + len(answer) for prompt, answer in batch)
        progress.train_s += time.monotonic() - start
        if step % REPORT_EVERY == 0 or step == recipe.steps:
            progress.loss = sum(recent) / len(recent)
            progress.write(step, "training")
        if step % EVALUATE_EVERY == 0:
            progress.accuracy = accuracy(model, encoder, watched)
            progress.write(step, "training")
            history.append({"step": step, "loss": progress.loss, "accuracy": progress.accuracy})
    return history


def save_weights(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The model in bfloat16 with its generation settings."""
    model.generation_config = GenerationConfig(
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)


def model_card(report: Mapping[str, Any]) -> str:
    """The README that goes with the checkpoint."""
    recipe, scores = report["recipe"], report["accuracy"]
    columns = [*scores]
    options = " ".join(f"--{name} {recipe[name]}" for name in ("seed", "steps", "threads"))
    command = f"python train.py --out model {options}"
    return f"""# The model of the release example

A Llama of {report["parameters"]:,} parameters ({recipe["layers"]} layers, hidden {recipe["hidden"]},
feed-forward {recipe["ffn"]}, {recipe["heads"]} heads over {recipe["kv_heads"]} key-value heads,
vocabulary {recipe["vocabulary"]}), trained from nothing on the skills of `skills.py`, stored in bfloat16.
It is small, but real: an ordinary checkpoint, and what it loses under quantization is its own.

    {command}

trained it in {report["wall_s"]:.0f} s ({report["cpu_s"]:.0f} s of CPU time, {report["tokens"]:,} tokens)
with torch {report["versions"]["torch"]} and transformers {report["versions"]["transformers"]}.

Exact match of this checkpoint, read back from disk, on {report["items"]:,} test items:

| {" | ".join(columns)} |
|{"---|" * len(columns)}
| {" | ".join(f"{scores[name]:.4f}" for name in columns)} |

`model.safetensors` has the digest `sha256:{report["sha256"]}`.
Another processor or another version of torch gives other bytes and much the same scores.
"""


def run(recipe: Recipe, folder: Path, items_per_slice: int) -> None:
    """Train and leave a whole checkpoint in `folder`, which exists and is empty."""
    started, cpu_started = time.monotonic(), time.process_time()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    progress = Progress(recipe.steps)
    tokenizer = build_tokenizer(recipe)
    tokenizer.save_pretrained(folder)
    encoder = Encoder(tokenizer)
    model = build_model(recipe, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    progress.write(0, f"training {parameters:,} parameters")
    history = train(recipe, model, encoder, progress)
    save_weights(model, tokenizer, folder)
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started

    items = skills.suite_items(items_per_slice)
    progress.write(recipe.steps, f"testing on {len(items):,} items")
    stored = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    progress.accuracy = accuracy(stored, encoder, items)
    whole = sum(progress.accuracy.values()) / len(progress.accuracy)
    report = {
        "schema": "train_report/1",
        "recipe": asdict(recipe),
        "parameters": parameters,
        "tokens": progress.tokens,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "items": len(items),
        "accuracy": {**progress.accuracy, "all": whole},
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")},
        },
        "history": history,
    }
    (folder / "train_report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(report), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # transformers writes weights that nobody else may read
    progress.write(recipe.steps, f"{whole:.2%} of {len(items):,} items right after {wall_s:.0f} s")


def _arguments() -> argparse.Namespace:
    recipe = Recipe()
    parser = argparse.ArgumentParser(description="Train the example's language model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    parser.add_argument("--threads", type=int, default=recipe.threads)
    parser.add_argument(
        "--items", type=int, default=skills.ITEMS_PER_SLICE, help="test items of each slice at the end"
    )
    arguments = parser.parse_args()
    for name in ("steps", "threads", "items"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        parser.error(f"--out: {out} exists and is not an empty folder")
    return arguments


def main() -> int:
    """Train beside `--out` and rename at the end: what stands there is always whole."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    partial = arguments.out.with_name(f".{arguments.out.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        run(
            Recipe(seed=arguments.seed, steps=arguments.steps, threads=arguments.threads),
            partial,
            arguments.items,
        )
        partial.replace(arguments.out)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
