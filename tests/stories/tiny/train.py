"""A training script of a user, without a framework: it reaches the level that its configuration says, with noise.

Each epoch leaves a line in `trained.log`, so that a test sees what was really trained, and how often.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import assay

flags = argparse.ArgumentParser()
flags.add_argument("--config", type=Path)
config = json.loads(flags.parse_args().config.read_text(encoding="utf-8"))
noise = random.Random(f"{config['seed']} {config['level']}").gauss(0, 0.01)
with assay.experiment("tiny") as run:
    run.checkpoints(every_epochs=1, verify_every=0, best=None)
    state = run.resume()
    first = 0 if state is None else state["epoch"] + 1
    run.start(total_epochs=config["epochs"])
    for epoch in range(first, config["epochs"]):
        time.sleep(config.get("pause_s", 0.0))
        if config.get("crash"):
            raise RuntimeError("this recipe does not work")
        score = config["level"] * (epoch + 1) / config["epochs"] + noise
        with Path("trained.log").open("a", encoding="utf-8") as file:
            file.write(f"{run.id} {run.attempt} {epoch}\n")
        run.log({"loss": 1.0 - score})
        run.epoch_end(epoch, {"score": score})
        last = epoch + 1 == config["epochs"] or run.should_stop
        run.checkpoint(
            {"epoch": epoch, "score": score},
            {"score": score},
            epoch=epoch,
            reason="final" if last else "cadence",
        )
        if run.should_stop:
            run.finish(reason="stopped")
            break
    else:
        run.finish({"score": score})
