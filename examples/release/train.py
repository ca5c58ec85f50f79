"""Train the example's language model: 541,568 parameters in five minutes on one CPU thread.

`python train.py --out model` needs torch, transformers and tokenizers. Progress goes to stdout, one JSON
object a line: `{"step", "steps", "loss", "tokens_per_s", "accuracy": {slice: share}, "message"}`, where what
is not known yet is null. The same seed gives the same bytes on the same machine with the same number of
threads.

Under `assay train -- python train.py ...` it is an attempt of an experiment as well: every step is logged, a loss on
held-out items and a checkpoint come now and then, a request to stop is obeyed, and `assay train --resume` goes on. By
itself it records nothing, and its bytes are the same.
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
import threading
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
HELD_OUT_ITEMS = 20
CHECKPOINT_EVERY, CHECKPOINTS_OF_A_SHORT_RUN = 200, 5
FAULTS = ("nan", "lr", "hang")
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
        warm = min(1.0, (step + 1) / min(self.warmup_steps, max(1, self.steps // 4)))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


@dataclass(frozen=True)
class Fault:
    """A fault that is planted on purpose at half of the steps, to see who notices; none by default."""

    kind: str = ""
    """`nan`: a loss of 0/0. `lr`: a learning rate 300 times too large. `hang`: a lock that nobody gives back."""
    step: int = 0

    def works(self, kind: str, step: int) -> bool:
        """Whether this kind is at work in this step."""
        return kind == self.kind and step >= self.step


class Stopped(Exception):
    """The training was asked to stop before it was done."""


class Record:
    """What `assay train` gets to know. Where the script runs by itself nothing is recorded.

    Args:
        recipe: frozen with the experiment.
        watched: held-out items; their loss is the metric. It draws nothing, so that the training stays the same.
    """

    def __init__(self, recipe: Recipe, watched: Sequence[Encoded], pad: int) -> None:
        self._run: Any = None
        self._parts: dict[str, Any] = {}
        self._watched, self._pad = watched, pad
        self._every = min(CHECKPOINT_EVERY, max(1, recipe.steps // CHECKPOINTS_OF_A_SHORT_RUN))
        if "ASSAY_EXPERIMENT_DIR" in os.environ:
            import assay  # noqa: PLC0415 - by itself the script does not need it

            self._run = assay.experiment(
                primary_metric="val_loss", direction="min", config=asdict(recipe), total_steps=recipe.steps,
                seed=recipe.seed,
            )  # fmt: skip

    def begin(self, model: Any, optimizer: Any, schedule: Any) -> int:
        """Watch these; where an earlier attempt left a checkpoint, go on from it. Returns the steps done."""
        if self._run is None:
            return 0
        from assay.track.checkpoint import restore  # noqa: PLC0415 - as above

        self._parts = {"model": model, "optimizer": optimizer, "scheduler": schedule, "run": self._run}
        self._run.watch(model, optimizer)
        self._run.checkpoints(keep=2, verify_every=0)
        state = self._run.resume()
        if state is None:
            return 0
        restore(state, gradients=False, **self._parts)
        return int(self._run.step)

    def step(self, step: int, steps: int, loss: float) -> None:
        """A step was done.

        Raises:
            Stopped: if somebody asked for it; a checkpoint was saved before.
        """
        if self._run is None:
            return
        self._run.log({"loss": loss}, step=step)
        if step % self._every == 0 or step == steps:
            metrics = {"val_loss": self._loss()}
            self._run.log_evaluation(metrics, step=step)
            self._save(step, metrics, "final" if step == steps else "cadence")
        if self._run.should_stop:
            self._save(step, None, "stop")
            raise Stopped(self._run.stop_reason)

    def evaluated(self, step: int, shares: Mapping[str, float]) -> None:
        """Exact answers were counted."""
        if self._run is not None:
            self._run.log_evaluation({f"exact/{name}": share for name, share in shares.items()}, step=step)

    def end(self, *, stopped: bool = False) -> None:
        """No step follows."""
        if self._run is not None:
            self._run.finish(reason="stopped" if stopped else "completed")

    @torch.no_grad()
    def _loss(self) -> float:
        model = self._parts["model"]
        with self._run.phase("eval"):
            model.eval()
            answers = sum(len(answer) for _, answer in self._watched)
            total = sum(float(answer_loss(model, part, self._pad)) for part in buckets(self._watched))
            model.train()
        return total / answers

    def _save(self, step: int, metrics: Mapping[str, float] | None, reason: str) -> None:
        from assay.track.checkpoint import capture  # noqa: PLC0415 - as above

        self._run.checkpoint(capture(gradients=False, **self._parts), metrics, step=step, reason=reason)


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
    recipe: Recipe, model: LlamaForCausalLM, encoder: Encoder, progress: Progress, fault: Fault
) -> list[dict[str, Any]]:
    """Train in place; returns what was seen on the way.

    The accuracies on the way are for people to watch: no choice rests on them, so that the test stays a test.

    Raises:
        Stopped: if `assay train` asked for it.
    """
    optimizer = optimizer_of(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 300.0 if fault.works("lr", step) else recipe.learning_rate_share(step)
    )
    items, watched = skills.training_items(recipe.mix, recipe.seed), skills.suite_items(EVALUATE_ITEMS)
    held_out = [encoder.encode(item) for item in skills.suite_items(HELD_OUT_ITEMS)]
    record = Record(recipe, held_out, encoder.pad)
    history: list[dict[str, Any]] = []
    recent: list[float] = []
    model.train()
    done = record.begin(model, optimizer, schedule)
    for _ in islice(items, done * recipe.batch):
        pass  # an attempt that goes on takes up the stream of items where it was
    for step in range(done + 1, recipe.steps + 1):
        if fault.works("hang", step):
            threading.Event().wait()
        start = time.monotonic()
        batch = [encoder.encode(item) for item in islice(items, recipe.batch)]
        answers = sum(len(answer) for _, answer in batch)
        total = 0.0
        for part in buckets(batch):
            loss = answer_loss(model, part, encoder.pad) / answers
            if fault.works("nan", step):
                loss = loss * torch.tensor(0.0).div(0.0)
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
            mean = sum(recent) / len(recent)
            progress.loss = mean if math.isfinite(mean) else None
            progress.write(step, "training")
        if step % EVALUATE_EVERY == 0:
            progress.accuracy = accuracy(model, encoder, watched)
            progress.write(step, "training")
            record.evaluated(step, progress.accuracy)
            history.append({"step": step, "loss": progress.loss, "accuracy": progress.accuracy})
        try:
            record.step(step, recipe.steps, total)
        except Stopped:
            record.end(stopped=True)
            raise
    record.end()
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


def run(recipe: Recipe, folder: Path, items_per_slice: int, fault: Fault) -> None:
    """Train and leave a whole checkpoint in `folder`, which exists and is empty.

    Raises:
        Stopped: if `assay train` asked for it; the folder is then not whole.
    """
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
    history = train(recipe, model, encoder, progress, fault)
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
    parser.add_argument("--fault", choices=FAULTS, help="plant this fault half-way, to see who notices")
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
            Fault(arguments.fault or "", arguments.steps // 2),
        )
        partial.replace(arguments.out)
    except KeyboardInterrupt:
        return 130
    except Stopped as reason:
        print(f"stopped: {reason}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
