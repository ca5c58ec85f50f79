"""Fault benchmark: does the checker find injected faults, in the right class, in time, and leave healthy runs alone?

Recipes of the splits `tune` and `held` chose the thresholds. `score` was scored, and what it missed was then looked at:
it is spent, and counts as one of them. `fresh` (other data sets, nets and seeds) was scored once; rules that are
changed after that need another split. Every injection is confirmed against its healthy twin and left out if it changed
nothing. Four published rule sets with their defaults judge the same runs. `--quick` takes a few seeds. Wilson
intervals are at 95 %.

`--per-level 0` runs the healthy runs alone; with the same `--traces` a second command adds the injections.
"""

# ruff: noqa: PLC0415 - torch is loaded by the workers, after OMP_NUM_THREADS is set

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _figures import Row

os.environ.setdefault("OMP_NUM_THREADS", "1")

CRITICAL = (1, 2, 4, 8, 17, 18, 22, 23, 26)
QUICK_S = 26.0
"""After so long `--quick` begins no run; what is under way is waited for."""
FIRST_SEED = {"tune": 0, "held": 0, "score": 1000, "fresh": 5000}
SCORED = ("score", "fresh")
IMMEDIATE = {"1 nonfinite": 1, "8 no update": 10, "9 dead learning rate": 10}


@dataclass(frozen=True)
class Job:
    """One run; `fault` is empty for a healthy one."""

    recipe: str
    seed: int
    fault: str = ""
    level: int = 0

    @property
    def file(self) -> str:
        """Name of its recorded trace."""
        parts = [self.recipe.replace("/", "-"), str(self.seed), self.fault or "healthy", str(self.level)]
        return "_".join(parts).replace(" ", "-") + ".json.gz"


@dataclass
class Judged:
    """What everybody said of a run."""

    job: Job
    alerts: list[dict[str, Any]]
    peers: dict[str, list[list[int]]]
    trace: Any
    check_us: float
    """Microseconds a line."""


@dataclass
class Tally:
    """Figures of one kind of fault."""

    name: str
    injected: int = 0
    confirmed: int = 0
    right: int = 0
    late: int = 0
    other: int = 0
    latencies: list[int] = field(default_factory=list)
    detected: list[float] = field(default_factory=list)
    """Steps to the first alert of the right class, late ones included; infinite if none came."""
    extra: int = 0
    """Alerts of other classes beside the right one that are incidents of their own."""
    by_level: dict[int, list[int]] = field(default_factory=dict)
    peers: dict[str, list[int]] = field(default_factory=dict)
    """Rule set → [any alarm after the onset, right class]."""
    missed: list[str] = field(default_factory=list)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if not n:
        return 0.0, 1.0
    z = 1.959964
    p, z2 = hits / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def work(job: Job, traces: str | None) -> Judged:
    """Train (or read the recorded trace), then let the checker and its peers judge."""
    import torch
    from _faults_inject import build
    from _faults_peers import first_alarms
    from _faults_recipes import RECIPES
    from _faults_train import Bench, Trace

    torch.set_num_threads(1)
    path = Path(traces) / job.file if traces else None
    if path is not None and path.exists():
        trace = Trace(**json.loads(gzip.decompress(path.read_bytes())))
    else:
        recipe = next(r for r in RECIPES if r.name == job.recipe)
        trace = (
            build(job.fault, job.level, recipe, job.seed) if job.fault else Bench(recipe, job.seed)
        ).run()
        if path is not None:
            path.write_bytes(gzip.compress(json.dumps(asdict(trace)).encode(), 3))
    signals = [x["signals"] for x in trace.lines if isinstance(x, dict) and "signals" in x]
    memory = [s["rss_bytes"] for s in signals if "rss_bytes" in s]
    trace.oracle["grown"] = memory[-1] - memory[5] if len(memory) > 6 else 0.0
    taken = [s["contended"] for s in signals[80:140] if "contended" in s]
    trace.oracle["contended"] = statistics.mean(taken or [0.0])
    trace.oracle |= seen_on_the_run(job, trace, signals)
    alerts, each = check(trace.lines)
    peers = first_alarms(trace)
    trace.lines, trace.peer = [], []
    return Judged(job, alerts, peers, trace, each)


def seen_on_the_run(job: Job, trace: Any, signals: list[dict[str, Any]]) -> dict[str, float]:
    """What oracles need of the rows, which are dropped."""
    from _faults_train import ONSET

    rows = [x for x in trace.lines if isinstance(x, dict) and x.get("event") == "step"]
    near = [r for r in rows if ONSET <= (r.get("step") or 0) <= ONSET + 1]
    found = {"nonfinite": float(sum("nonfinite" in r for r in near))}
    if job.fault.startswith("21"):
        # Memory freed by an earlier run of the process is used first: the leak begins where the process grows.
        memory = [(i, s["rss_bytes"]) for i, s in enumerate(signals, 1) if "rss_bytes" in s]
        grown = [i for i, v in memory if v > memory[0][1] + 2**20]
        found |= {"onset": float(grown[0])} if grown else {}
    return found


def check(lines: list[Any]) -> tuple[list[dict[str, Any]], float]:
    """Changes of alerts in a trace, each with the number of the step row it came after."""
    from assay.live.checker import Checker

    checker, found, row = Checker(), [], 0
    started = time.process_time()
    for line in lines:
        if isinstance(line, dict):
            row += line.get("event") == "step"
            changes = checker.feed(line)
        else:
            changes = checker.close() if line[0] == "close" else checker.at(line[1], line[2])
        found += [{"row": row, **c.to_json()} for c in changes]
    return found, 1e6 * (time.process_time() - started) / max(1, len(lines))


def plan(
    split: str, first: int, seeds: int, per_level: int, only: Sequence[str]
) -> tuple[list[Job], list[Job]]:
    """Healthy jobs and faulty ones; each faulty one has its twin among the healthy."""
    from _faults_inject import FAULTS, LEVELS, recipes
    from _faults_recipes import RECIPES

    healthy = [Job(r.name, first + s) for r in RECIPES if r.split == split for s in range(seeds)]
    faulty = []
    for name in FAULTS:
        if only and not any(o in name for o in only):
            continue
        fitting = recipes(name, split)
        for level in range(len(LEVELS)):
            for i in range(per_level):
                recipe = fitting[(i + level) % len(fitting)]
                faulty.append(Job(recipe.name, first + (i // len(fitting) + i) % seeds, name, level))
    return healthy, list(dict.fromkeys(faulty))


def glance(healthy: list[Job], faulty: list[Job]) -> list[Job]:
    """The jobs of `--quick`: one level a fault with its twin, in turn with one healthy run a recipe."""
    names = list(dict.fromkeys(j.fault for j in faulty))
    chosen = [j for j in faulty if j.level == names.index(j.fault) % 3]
    twins = [t for j in chosen for t in (Job(j.recipe, j.seed), j)]
    return list(dict.fromkeys([*twins, *(j for j in healthy if j.seed == healthy[0].seed)]))


def run(
    jobs: Iterable[Job], workers: int, traces: Path | None, limit_s: float = math.inf
) -> dict[Job, Judged]:
    """All runs, in `workers` processes; what has not begun after `limit_s` is left out."""
    jobs = list(jobs)
    until = time.monotonic() + limit_s
    if traces is not None:
        traces.mkdir(parents=True, exist_ok=True)
    where = str(traces) if traces else None
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        if limit_s == math.inf:
            done = pool.map(work, jobs, [where] * len(jobs), chunksize=4)
            return {judged.job: judged for judged in done}
        waiting = [pool.submit(work, job, where) for job in jobs]
        found = {}
        for future in waiting:
            with contextlib.suppress(CancelledError, TimeoutError):
                judged = future.result(timeout=max(0.0, until - time.monotonic()))
                found[judged.job] = judged
        pool.shutdown(wait=True, cancel_futures=True)
        return found


def opened(judged: Judged, *, info: bool = False) -> list[dict[str, Any]]:
    """First lines of the alerts that were opened."""
    order = ("info", "warning", "critical")
    seen: dict[str, int] = {}
    found = []
    for alert in judged.alerts:
        level = order.index(alert["severity"])
        # A line of an open alert that is harder than those before is news as well.
        if alert["state"] == "open" and level > seen.get(alert["id"], -1) and (info or level):
            found.append(alert)
        seen[alert["id"]] = max(level, seen.get(alert["id"], -1))
    return found


def score(name: str, runs: list[Judged], healthy: dict[Job, Judged]) -> Tally:
    """Figures of one kind of fault."""
    from _faults_inject import FAULTS
    from _faults_peers import PEERS

    fault = FAULTS[name]
    tally = Tally(name)
    for judged in runs:
        tally.injected += 1
        job = judged.job
        twin = healthy[Job(job.recipe, job.seed)]
        if not fault.confirm(judged.trace, twin.trace, job.level):
            continue
        tally.confirmed += 1
        onset = fault.begins(job.level, judged.trace)
        end = onset + fault.budget
        # An event of the onset's step stands before its row.
        said = [a for a in opened(judged, info=True) if a["row"] >= onset - 1]
        # A divergence that overflows at once is no number any more: both names are right.
        overflow = {1} if fault.number == 2 and None in judged.trace.losses[onset : end + 1] else set()
        own = [a for a in said if a["class"] in {fault.number, *overflow}]
        hit = [a for a in own if a["row"] <= end]
        tally.detected.append(max(0, own[0]["row"] - onset) if own else math.inf)
        counts = tally.by_level.setdefault(job.level, [0, 0])
        counts[1] += 1
        if hit:
            tally.right += 1
            counts[0] += 1
            tally.latencies.append(max(0, hit[0]["row"] - onset))
            tally.extra += sum(a["class"] != fault.number and a["row"] >= onset for a in opened(judged))
        elif own:
            tally.late += 1
            tally.missed.append(f"{job.recipe} s{job.seed} l{job.level}: late by {own[0]['row'] - end}")
        else:
            others = [a["name"] for a in said]
            tally.other += bool(others)
            tally.missed.append(f"{job.recipe} s{job.seed} l{job.level}: {', '.join(others) or 'nothing'}")
        for peer in PEERS:
            after = [n for n, *steps in judged.peers[peer] if any(s >= onset for s in steps)]
            row = tally.peers.setdefault(peer, [0, 0])
            row[0] += bool(after)
            row[1] += fault.number in after
    return tally


def true_of(trace: Any) -> set[int]:
    """Classes that a run without an injected fault shows by its outcome: an alert of them is no false alarm.

    Looks at all evaluations of the finished run, not at what any rule said: learned nothing (plateau, collapse), or the
    validation loss ended more than 15 % above its best (overfit, regression).
    """
    values = [v["val_loss"] for v in trace.validation if "val_loss" in v]
    if len(values) < 6:
        return set()
    accuracy = max((v.get("val_acc", 0.0) for v in trace.validation), default=0.0)
    idle = {10, 14} if min(values) > 0.9 * values[0] and accuracy < 0.6 else set()
    turned = {11, 13} if statistics.median(values[-3:]) > 1.15 * min(values) else set()
    return idle | turned


def false_alarms(judged: Judged, *, info: bool = False) -> list[dict[str, Any]]:
    """Alerts that were opened although the outcome does not bear them out."""
    return [a for a in opened(judged, info=info) if a["class"] not in true_of(judged.trace)]


def healthy_rows(healthy: list[Judged], quick: bool) -> list[Row]:
    """Alarms on healthy runs."""
    n = len(healthy)
    raw = sum(bool(opened(j)) for j in healthy)
    alarmed = sum(bool(false_alarms(j)) for j in healthy)
    critical = sum(any(a["severity"] == "critical" for a in opened(j)) for j in healthy)
    stopped = sum(any(a["stop"] for a in j.alerts) for j in healthy)
    info = sum(bool(opened(j, info=True)) for j in healthy)
    rows = [
        Row("healthy runs", n, "", ">= 300", n >= 300 or quick),
        _share("healthy runs with a warning or worse", alarmed, n, "<= 2 %", 2.0),
        _share("healthy runs with a critical alert", critical, n, "<= 0.3 %", 0.3),
        Row("healthy runs that would be stopped", stopped, "", "0", stopped == 0, _interval(stopped, n)),
        Row(
            "  the same, alerts that the outcome bears out (overfit, plateau) counted too",
            100 * raw / n,
            "%",
            "",
            None,
            _interval(raw, n),
        ),
        Row("healthy runs with any alert, info included", 100 * info / n, "%", "", None, _interval(info, n)),
    ]
    from _faults_peers import PEERS

    for peer in PEERS:
        said = sum(any(steps for _, *steps in j.peers[peer]) for j in healthy)
        rows.append(
            Row(f"  {peer}: healthy runs with an alarm", 100 * said / n, "%", "", None, _interval(said, n))
        )
    return rows


def _interval(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits}/{n}, 95 % {100 * low:.1f} to {100 * high:.1f} %"


def _share(name: str, hits: int, n: int, target: str, limit: float) -> Row:
    share = 100 * hits / n if n else 0.0
    return Row(name, share, "%", target, share <= limit, _interval(hits, n))


def fault_rows(tallies: list[Tally]) -> list[Row]:
    """Detection of faults, all together and one by one; nothing where none was injected."""
    if not tallies:
        return []
    from _faults_inject import FAULTS
    from _faults_peers import PEERS

    rows: list[Row] = []
    for title, chosen, target in (
        (
            "critical classes found in the right class",
            [t for t in tallies if FAULTS[t.name].number in CRITICAL],
            99.0,
        ),
        ("all classes found in the right class", tallies, 95.0),
    ):
        right, n = sum(t.right for t in chosen), sum(t.confirmed for t in chosen)
        share = 100 * right / n if n else 0.0
        rows.append(Row(title, share, "%", f">= {target:g} %", share >= target, _interval(right, n)))
    n, right = sum(t.confirmed for t in tallies), sum(t.right for t in tallies)
    rows.append(
        Row("further incidents beside the right one", sum(t.extra for t in tallies) / max(1, right), "a run")
    )
    injected = sum(t.injected for t in tallies)
    rows.append(
        Row("injections that changed nothing, left out", injected - n, "", "", None, f"of {injected}")
    )
    for peer in PEERS:
        some = sum(t.peers.get(peer, [0, 0])[0] for t in tallies)
        right = sum(t.peers.get(peer, [0, 0])[1] for t in tallies)
        rows.append(Row(f"  {peer}: faults in the right class", 100 * right / max(1, n), "%", "", None,
                        f"{_interval(right, n)}; any alarm {100 * some / max(1, n):.0f} %"))  # fmt: skip
    for t in tallies:
        found_share = 100 * t.right / t.confirmed if t.confirmed else None
        levels = " ".join(f"{a}/{b}" for _, (a, b) in sorted(t.by_level.items()))
        rows.append(Row(t.name, found_share, "%", "", None,
                        f"{_interval(t.right, t.confirmed)}; by level {levels}; {_latency(t.latencies)}; "
                        f"late {t.late}, other class {t.other}, unconfirmed {t.injected - t.confirmed}"))  # fmt: skip
    for name, limit in IMMEDIATE.items():
        found = next((t for t in tallies if t.name == name), None)
        if found is not None and found.detected:
            in_time = sum(d <= limit for d in found.detected)
            worst = max(found.detected)
            told = f"{_interval(in_time, len(found.detected))} in time; worst {worst:g}, late and missed ones counted"
            rows.append(
                Row(f"{name}: found within {limit} steps", 100 * in_time / len(found.detected), "%", "100 %",
                    worst <= limit, told)
            )  # fmt: skip
    return rows


def _latency(values: list[int]) -> str:
    if not values:
        return "no detection"
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]
    return f"steps median {statistics.median(ordered):g} p90 {high}"


def figures(arguments: argparse.Namespace) -> list[Row]:
    """Run and score."""
    started = time.monotonic()
    limit = 45 if arguments.quick else 2400
    seeds, per_level = (2, 1) if arguments.quick else (arguments.seeds, arguments.per_level)
    first = FIRST_SEED[arguments.split] if arguments.first_seed is None else arguments.first_seed
    healthy_jobs, faulty_jobs = plan(arguments.split, first, seeds, per_level, arguments.only)
    every = glance(healthy_jobs, faulty_jobs) if arguments.quick else [*healthy_jobs, *faulty_jobs]
    done = run(every, arguments.jobs, arguments.traces, QUICK_S if arguments.quick else math.inf)
    healthy = {j: done[j] for j in done if not j.fault}
    faulty_jobs = [j for j in faulty_jobs if j in done and Job(j.recipe, j.seed) in healthy]
    names = list(dict.fromkeys(j.fault for j in faulty_jobs))
    tallies = [score(n, [done[j] for j in faulty_jobs if j.fault == n], healthy) for n in names]
    if arguments.explain:
        explain(list(healthy.values()), tallies)
    rows = [
        *healthy_rows(list(healthy.values()), arguments.quick or arguments.split not in SCORED),
        *fault_rows(tallies),
    ]
    rows.append(Row("checker, a line", statistics.median(j.check_us for j in done.values()), "us"))
    rows.append(Row("training, a run", statistics.median(j.trace.seconds for j in done.values()), "s"))
    rows.append(
        Row(
            "whole benchmark",
            time.monotonic() - started,
            "s",
            f"< {limit}",
            time.monotonic() - started < limit,
            f"{len(done)} runs, split {arguments.split}",
        )
    )
    return rows


def explain(healthy: list[Judged], tallies: list[Tally]) -> None:
    """What went wrong, run by run, on stderr."""
    for judged in healthy:
        excused = true_of(judged.trace)
        for alert in opened(judged, info=True):
            kind = "borne out" if alert["class"] in excused else "healthy"
            print(f"{kind} {judged.job.recipe} s{judged.job.seed}: {alert['severity']} {alert['name']} "
                  f"@{alert['row']}: {alert['text']}", file=sys.stderr)  # fmt: skip
    for tally in tallies:
        for missed in tally.missed:
            print(f"missed {tally.name}: {missed}", file=sys.stderr)


def main() -> None:
    """Parse the options, measure, print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="answer within 45 s")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument(
        "--traces", type=Path, help="keep recorded runs here and judge them again without training"
    )
    parser.add_argument(
        "--split",
        choices=tuple(FIRST_SEED),
        help="`fresh` is left alone by --quick and by all work on the rules [fresh, held]",
    )
    parser.add_argument("--seeds", type=int, default=12, help="healthy runs a recipe")
    parser.add_argument("--first-seed", type=int, help="of the healthy runs [the split's own]")
    parser.add_argument("--per-level", type=int, default=12, help="runs of a fault and level; 0 = none")
    parser.add_argument("--only", action="append", default=[], help="faults whose name holds this text")
    parser.add_argument(
        "--explain", action="store_true", help="name every false alarm and every miss on stderr"
    )
    arguments = parser.parse_args()
    arguments.split = arguments.split or ("held" if arguments.quick else "fresh")
    rows = figures(arguments)
    width = max(len(r.name) for r in rows)
    for r in rows:
        value = "not measured" if r.value is None else f"{r.value:,.2f}".rstrip("0").rstrip(".")
        mark = {True: "ok", False: "MISSED", None: ""}[r.ok]
        print(f"{r.name:<{width}}  {value:>9} {r.unit:<5} {r.target:<8} {mark:<6} {r.peer}")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")
    sys.exit(1 if any(r.ok is False for r in rows) else 0)


if __name__ == "__main__":
    main()
