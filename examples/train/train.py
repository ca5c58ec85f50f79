"""Trains a small classifier of three spirals: seconds on one core. What is set comes from a file, the seed with it.

assay run examples/train/train.yaml         # a study of several recipes
assay train -- python examples/train/train.py --config my.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

import assay
from assay.track.checkpoint import capture, restore

CLASSES, POINTS = 3, 200
DATA_SEED = 7
DEFAULTS: dict[str, Any] = {
    "hidden": 8,
    "layers": 1,
    "lr": 0.02,
    "weight_decay": 0.0,
    "batch": 32,
    "epochs": 12,
}


def spirals(points: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [3 * points, 2] on three arms of a spiral, with noise, and the arm of each."""
    generator = torch.Generator().manual_seed(seed)
    xs, ys = [], []
    for arm in range(CLASSES):
        radius = torch.linspace(0.05, 1.0, points)
        angle = 4.0 * radius + arm * 2.0 * math.pi / CLASSES
        angle = angle + 0.2 * torch.randn(points, generator=generator)
        xs.append(torch.stack([radius * angle.sin(), radius * angle.cos()], dim=1))
        ys.append(torch.full((points,), arm))
    return torch.cat(xs), torch.cat(ys)


def network(config: dict[str, Any]) -> nn.Module:
    """Two numbers in, one logit for each arm out."""
    width, parts = 2, []
    for _ in range(config["layers"]):
        parts += [nn.Linear(width, config["hidden"]), nn.Tanh()]
        width = config["hidden"]
    return nn.Sequential(*parts, nn.Linear(width, CLASSES))


def train(config: dict[str, Any]) -> None:
    """One training, from the start or from the newest checkpoint of its experiment."""
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    x, y = spirals(POINTS, DATA_SEED)
    held_out_x, held_out_y = spirals(POINTS, DATA_SEED + 1)
    model = network(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    shuffle = torch.Generator().manual_seed(config["seed"])
    criterion = nn.CrossEntropyLoss()
    accuracy = 0.0
    with assay.experiment(
        "spirals",
        primary_metric="val_accuracy",
        direction="max",
        hypothesis="A small network separates three spirals.",
        total_epochs=config["epochs"],
        config=config,
        seed=config["seed"],
    ) as run:
        # The last state counts, not the best: choosing the best of twelve looks would flatter every recipe.
        saver = run.checkpoints(every_epochs=3, verify_every=0, best=None)
        state = run.resume()
        first = 0
        if state is not None:
            first = (
                restore(state, model=model, optimizer=optimizer, loader_generator=shuffle)["counters"][
                    "epoch"
                ]
                + 1
            )
        run.start(total_epochs=config["epochs"], config=config)
        run.watch(model, optimizer)
        for epoch in range(first, config["epochs"]):
            order = torch.randperm(len(x), generator=shuffle)
            for index in run.track(order.split(config["batch"])):
                loss = criterion(model(x[index]), y[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log({"loss": loss.detach()})
            with torch.no_grad(), run.phase("eval"):
                logits = model(held_out_x)
                accuracy = (logits.argmax(1) == held_out_y).float().mean().item()
                val_loss = criterion(logits, held_out_y).item()
            metrics = {"val_accuracy": accuracy, "val_loss": val_loss}
            run.epoch_end(epoch, metrics, learning_rate=config["lr"])
            last = epoch + 1 == config["epochs"] or run.should_stop
            if last or (saver is not None and saver.due(run.step, epoch)):
                state = capture(
                    model=model, optimizer=optimizer, loader_generator=shuffle, counters={"epoch": epoch}
                )
                run.checkpoint(state, metrics, epoch=epoch, reason="final" if last else "cadence")
            if run.should_stop:
                run.finish(reason="stopped")
                return
        run.finish({"val_accuracy": accuracy})


def main() -> None:
    """Read what is set, train."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--config", type=Path, required=True, help="JSON file")
    given = json.loads(flags.parse_args().config.read_text())
    train({"seed": 0, **DEFAULTS, **given})


if __name__ == "__main__":
    main()
