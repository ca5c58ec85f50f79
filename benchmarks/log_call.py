"""Cost of one log call with five scalars in the training thread, ours beside the known trackers; what the default probes
cost; what SIGKILL loses.

Each tracker runs in a process of its own, by the interpreter that LOG_CALL_PYTHON names (this one if it is not set);
those that it has not installed are not measured. The first twenty calls are not counted. `paced`: a millisecond
between two calls, as in a training, where caches are cold and the writer thread is awake.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from _figures import Row, below, main

SRC = Path(__file__).parents[1] / "src"
CALLS = 1_000
WARM_UP = 20
TRACKERS = ("trackio", "tensorboard", "wandb", "mlflow", "dvclive", "jsonl", "jsonl fsync")
Log = Callable[[dict[str, float], int], Any]


def measure(quick: bool) -> list[Row]:
    """Ours, the others, the probes, the kill."""
    rows = ours()
    limit_s = 12.0 if quick else 300.0
    for name in TRACKERS:
        rows += theirs(name, CALLS // 10 if quick else CALLS, limit_s)
    rows += probes(blocks=60 if quick else 400)
    return rows + killed(times=2 if quick else 10)


def ours() -> list[Row]:
    """Our tracker, called back to back and paced."""
    fast = worker("assay", CALLS, 0.0, 60.0, sys.executable)
    paced = worker("assay", CALLS, 0.001, 60.0, sys.executable)
    if "error" in fast or "error" in paced:
        sys.exit(f"our own tracker failed: {fast.get('error') or paced.get('error')}")
    return [
        below("assay log p50", fast["p50"], "us", 5.0),
        below("assay log p99", fast["p99"], "us", 100.0),
        Row("assay log p50, paced", paced["p50"], "us"),
        below("assay log p99, paced", paced["p99"], "us", 100.0),
        Row("assay log max, paced", paced["max"], "us"),
        Row("assay init", fast["init_s"], "s"),
        Row("assay finish", fast["finish_s"], "s"),
        Row("assay bytes per call", fast["bytes"], "B"),
    ]


def theirs(name: str, calls: int, limit_s: float) -> list[Row]:
    """Another tracker; one row that says why if it cannot be measured."""
    found = worker(name, calls, 0.0, limit_s, os.environ.get("LOG_CALL_PYTHON", sys.executable))
    if "error" in found:
        return [Row(f"{name} log p50", None, "us", peer=found["error"])]
    label = f"{found['version']}, {calls} calls"
    return [
        Row(f"{name} log p50", found["p50"], "us", peer=label),
        Row(f"{name} log p99", found["p99"], "us", peer=label),
        Row(f"{name} init", found["init_s"], "s", peer=label),
        Row(f"{name} finish", found["finish_s"], "s", peer=label),
        Row(f"{name} bytes per call", found["bytes"], "B", peer=label),
    ]


def worker(name: str, calls: int, pause_s: float, limit_s: float, python: str) -> dict[str, Any]:
    """Figures of one tracker from its own process, or `error`."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {
            "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true",
            "TRACKIO_DIR": f"{folder}/trackio", "HF_HUB_OFFLINE": "1", "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "HOME": folder,
        }  # fmt: skip
        command = [python, __file__, "--worker", name, folder, str(calls), str(pause_s)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**environment, **quiet},
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done within {limit_s:g} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        tail = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        return {"error": tail[0][:100]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def work(name: str, folder: Path, calls: int, pause_s: float) -> dict[str, Any]:
    """In the worker: open, call, close, count."""
    begun = time.perf_counter()
    log, close, version = OPENERS[name](folder)
    init_s = time.perf_counter() - begun
    spent = []
    for step in range(1, calls + WARM_UP + 1):
        metrics = {"loss": 1.0 / step, "acc": 0.5, "lr": 0.001, "grad_norm": 1.0 + step, "tokens": 1e6 * step}
        at = time.perf_counter_ns()
        log(metrics, step)
        spent.append((time.perf_counter_ns() - at) / 1_000)
        if pause_s:
            time.sleep(pause_s)
    begun = time.perf_counter()
    close()
    finish_s = time.perf_counter() - begun
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    counted = sorted(spent[WARM_UP:])
    return {
        "p50": statistics.median(counted),
        "p99": counted[int(0.99 * len(counted))],
        "max": counted[-1],
        "init_s": init_s,
        "finish_s": finish_s,
        "bytes": size / (calls + WARM_UP),
        "version": version,
    }


def _assay(folder: Path) -> tuple[Log, Callable[[], Any], str]:
    import assay  # noqa: PLC0415 - what is measured

    run = assay.experiment("bench", root=folder / "experiments")
    return run.log, run.finish, assay.__version__


def _trackio(_: Path) -> tuple[Log, Callable[[], Any], str]:
    trackio = importlib.import_module("trackio")
    trackio.init(project="bench", name="one", embed=False)
    return lambda metrics, step: trackio.log(metrics, step=step), trackio.finish, trackio.__version__


def _tensorboard(folder: Path) -> tuple[Log, Callable[[], Any], str]:
    version = importlib.import_module("tensorboard.version")
    writer = importlib.import_module("tensorboard.summary").Writer(str(folder / "tb"))

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return log, writer.close, version.VERSION


def _wandb(folder: Path) -> tuple[Log, Callable[[], Any], str]:
    wandb = importlib.import_module("wandb")
    run = wandb.init(mode="offline", project="bench", dir=str(folder))
    return lambda metrics, step: run.log(metrics, step=step), run.finish, wandb.__version__


def _mlflow(folder: Path) -> tuple[Log, Callable[[], Any], str]:
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("bench")
    mlflow.start_run()
    return lambda metrics, step: mlflow.log_metrics(metrics, step=step), mlflow.end_run, mlflow.__version__


def _dvclive(folder: Path) -> tuple[Log, Callable[[], Any], str]:
    live = importlib.import_module("dvclive").Live(str(folder / "live"), save_dvc_exp=False)

    def log(metrics: dict[str, float], _: int) -> None:
        for name, value in metrics.items():
            live.log_metric(name, value)
        live.next_step()

    return log, live.end, metadata.version("dvclive")


def _jsonl(folder: Path, *, sync: bool = False) -> tuple[Log, Callable[[], Any], str]:
    handle = (folder / "rows.jsonl").open("w")

    def log(metrics: dict[str, float], step: int) -> None:
        handle.write(json.dumps({"step": step, "metrics": metrics}) + "\n")
        if sync:
            handle.flush()
            os.fsync(handle.fileno())

    return log, handle.close, "json.dumps in the loop"


OPENERS: dict[str, Callable[[Path], tuple[Log, Callable[[], Any], str]]] = {
    "assay": _assay,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "dvclive": _dvclive,
    "jsonl": _jsonl,
    "jsonl fsync": lambda folder: _jsonl(folder, sync=True),
}


def probes(blocks: int) -> list[Row]:
    """Share of a step of 5 ms that recording takes, without and with the default probes."""
    try:
        import torch  # noqa: PLC0415 - a heavy vendor
    except ImportError as error:
        return [Row("track + watch + log, share of a step", None, "%", peer=str(error))]
    torch.set_num_threads(1)
    width = 16
    while width < 4_096:
        step, _, _ = twin(torch, width)
        timed(step)
        step_ms = 100 * timed(step)
        if step_ms >= 4.8:
            break
        width = max(width + 8, int(width * min(2.0, 5.0 / step_ms)))
    return [
        share("track + log, share of a step", torch, width, blocks, watch=False),
        share("track + watch + log, share of a step", torch, width, blocks, watch=True),
    ]


def share(name: str, torch: Any, width: int, blocks: int, *, watch: bool) -> Row:
    """Twins that train in turn, one of them recorded: processor time of blocks of ten steps.

    Ten steps hold most of the probes that are not taken every step once. Time of the whole process, so that what the
    writer thread takes counts as well. A block stands between two of the twin, so that a drift of the machine cancels;
    the quarter of the blocks that differ most to each side (another process took the caches) is left out of the mean.
    """
    import assay  # noqa: PLC0415 - what is measured

    plain, _, _ = twin(torch, width)
    recorded, model, optimizer = twin(torch, width)
    costs, without = [], [timed(plain)]
    with tempfile.TemporaryDirectory() as folder:
        run = assay.experiment(root=folder)
        if watch:
            run.watch(model, optimizer)
        for _ in range(blocks + 5):
            begun = time.process_time()
            for _ in run.track(range(10)):
                run.log({"loss": recorded(), "acc": 0.5, "lr": 0.1, "a": 1.0, "b": 2.0})
            spent = time.process_time() - begun
            without.append(timed(plain))
            costs.append(spent - 0.5 * (without[-2] + without[-1]))
        run.finish()
    base, kept = statistics.median(without[5:]), sorted(costs[5:])  # the first blocks warm up
    kept = kept[len(kept) // 4 : len(kept) - len(kept) // 4]
    # The standard error of a quarter-trimmed mean, by the winsorised variance (Tukey and McLaughlin 1963).
    wide = [kept[0]] * (len(kept) // 2) + kept + [kept[-1]] * (len(kept) // 2)
    error = statistics.stdev(wide) / (0.5 * len(wide) ** 0.5)
    label = f"step of {100 * base:.1f} ms CPU; +- {100 * error / base:.2f} (s.e.); {blocks} blocks of 10"
    return below(name, 100 * statistics.mean(kept) / base, "%", 2.0, label)


def twin(torch: Any, width: int) -> tuple[Callable[[], float], Any, Any]:
    """A step of a network of five layers, with its model and optimizer; each twin is the same."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *(torch.nn.Linear(256, 256) if i % 2 == 0 else torch.nn.ReLU() for i in range(9))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = torch.randn(width, 256)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(batch).pow(2).mean()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step, model, optimizer


def timed(step: Callable[[], Any]) -> float:
    """Processor seconds of ten steps."""
    begun = time.process_time()
    for _ in range(10):
        step()
    return time.process_time() - begun


TRAINING = """
import os, sys, time, assay
run = assay.experiment(root=sys.argv[1])
step = 0
while True:
    step += 1
    run.log({"loss": 1.0 / step})
    if step % 40 == 0:
        run.log_evaluation({"val_loss": 1.0 / step}, step=step)
        os.write(1, f"evaluated {step} 0\\n".encode())
    os.write(1, f"step {step} {time.time()}\\n".encode())
    time.sleep(0.005)
"""


def killed(times: int) -> list[Row]:
    """What SIGKILL takes of a training that logs every 5 ms."""
    from assay.track import experiments, files  # noqa: PLC0415 - what is measured

    lost_s, lost_events = [], 0
    for index in range(times):
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [sys.executable, "-c", TRAINING, folder],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(SRC)},
            )
            time.sleep(1.0 + 0.093 * index)
            process.send_signal(signal.SIGKILL)
            told = [line.split() for line in process.communicate()[0].splitlines() if line.count(" ") == 2]
            made = Path(folder) / "exp-001"
            rows = [files.parse(x) for x in (made / "metrics.jsonl").read_bytes().splitlines()]
            newest = max(
                experiments.seconds(r["timestamp"]) or 0.0 for r in rows if r and r["event"] == "step"
            )
            lost_s.append(max(float(line[2]) for line in told if line[0] == "step") - newest)
            known = {e["step"] for e in files.read_events(made) if e["event"] == "evaluated"}
            lost_events += len({int(line[1]) for line in told if line[0] == "evaluated"} - known)
    return [
        below("SIGKILL, step rows lost, worst", max(lost_s), "s", 1.0, f"{times} kills"),
        below("SIGKILL, events lost", float(lost_events), "", 0.5, f"{times} kills"),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(work(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))))
    else:
        main(__doc__ or "", measure)
