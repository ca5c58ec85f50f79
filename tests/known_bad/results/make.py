"""Writes the hand-made and the derived cases of the corpus of results, here and under tests/known_good/results.

The real ones (see README.md) were written by lm-eval, inspect_ai and pytest and are only copied from here.
Run it again after a change: python tests/known_bad/results/make.py
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

BAD = Path(__file__).resolve().parent
GOOD = BAD.parents[1] / "known_good" / "results"
ITEMS, REPEATS = 12, 2

Edit = Callable[[Path], None]


def write(path: Path, value: Any) -> None:
    """Text as it is, lists of rows as JSON lines, other values as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, str):
        path.write_text(value)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value, indent=1) + "\n")


def right(item: int, repeat: int = 0) -> bool:
    """Whether the made-up model answers an item rightly."""
    return (item * 7 + repeat * 3) % 4 != 0


def fresh(place: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def derived(name: str, source: Path, edit: Edit) -> None:
    """A bad case made from a good one by one edit."""
    place = BAD / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    edit(place)


def edit_lines(pattern: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Edit:
    """Change the rows of the first file that fits."""

    def edit(place: Path) -> None:
        file = min(place.rglob(pattern))
        write(file, change([json.loads(line) for line in file.read_text().splitlines()]))

    return edit


def edit_json(pattern: str, change: Callable[[Any], Any]) -> Edit:
    """Change the first document that fits; a change that returns something replaces it."""

    def edit(place: Path) -> None:
        file = min(place.rglob(pattern))
        document = json.loads(file.read_text())
        changed = change(document)
        write(file, document if changed is None else changed)

    return edit


def both(*edits: Edit) -> Edit:
    """Several edits, one after the other."""

    def edit(place: Path) -> None:
        for one in edits:
            one(place)

    return edit


def rows_with(change: dict[str, Any], where: Callable[[dict[str, Any]], bool] = lambda _: True) -> Any:
    """A change of rows: these fields in those rows."""
    return lambda rows: [{**r, **change} if where(r) else r for r in rows]


# NeMo Evaluator 0.3 and later


def bundle(place: Path, name: str = "mini_gpqa") -> None:
    """A complete bundle."""
    rows = [
        {
            "problem_idx": i, "repeat": k, "reward": float(right(i, k)), "extracted_answer": "ABCD"[(i + k) % 4],
            "expected_answer": "ABCD"[i % 4], "prompt": f"Question {i}?",
            "model_response": f"I think it is {'ABCD'[(i + k) % 4]}.",
            "scoring_details": {"method": "multichoice_regex"}, "scorer_rewards": {},
            "metadata": {"category": ["physics", "biology"][i % 2], "completion_tokens": 40 + i, "finish_reason": "stop"},
        }
        for i in range(ITEMS) for k in range(REPEATS)
    ]  # fmt: skip
    mean = sum(r["reward"] for r in rows) / len(rows)  # type: ignore[misc]
    document = {
        "run_id": f"eval-20261120T100000Z-{name}", "config_hash": "sha256:0", "sdk_version": "0.3.1",
        "timestamp": "2026-11-20T10:00:00+00:00",
        "config": {"model": "demo", "temperature": 0.6, "top_p": 0.95, "max_tokens": 2048, "repeats": REPEATS,
                   "benchmark": name, "seed": 1},
        "benchmark": {"name": name, "samples": ITEMS, "repeats": REPEATS,
                      "scores": {"mean_reward": {"value": mean}, "pass@1": {"value": mean}},
                      "categories": {}},
        "n_results": len(rows),
    }  # fmt: skip
    write(place / f"{document['run_id']}.json", document)
    write(place / "results.jsonl", rows)


def failed_rows(category: str, n: int = 5) -> Any:
    """The first rows ended with an error, and the harness scored them 0.0."""
    details = {"error": f"{category} at the endpoint", "error_category": category}
    wrong = {"reward": 0.0, "extracted_answer": None, "model_response": "", "scoring_details": details}
    return rows_with(wrong, lambda r: r["problem_idx"] < n)


def rescored(place: Path) -> None:
    """Make the bundle's score the mean of its rows again, as the harness would have written it."""
    rows = [json.loads(line) for line in (place / "results.jsonl").read_text().splitlines()]
    mean = sum(r["reward"] for r in rows) / len(rows)
    edit_json(
        "eval-*.json",
        lambda d: d["benchmark"]["scores"].update(
            {"mean_reward": {"value": mean}, "pass@1": {"value": mean}}
        ),
    )(place)


def bundles() -> None:
    """The good bundle, and what became of it in the field."""
    good = GOOD / "nemo_bundle"
    bundle(fresh(good))
    rows = "results.jsonl"
    cases = {
        "bundle_infra_as_zero": edit_lines(rows, failed_rows("infra_error")),
        "bundle_rate_limit_as_zero": edit_lines(rows, failed_rows("rate_limit")),
        "bundle_judge_as_zero": edit_lines(
            rows,
            rows_with(
                {"reward": 0.0, "scoring_details": {"method": "judge", "judge": {"error": "401", "total": 1}}}
            ),
        ),
        "bundle_no_judge_client": edit_lines(
            rows,
            rows_with({"reward": 0.0, "scoring_details": {"method": "judge"}}, lambda r: r["repeat"] == 0),
        ),
        "bundle_zero_after_resume": edit_lines(
            rows,
            rows_with(
                {"reward": 0.0, "extracted_answer": None, "model_response": None, "scoring_details": {}},
                lambda r: r["problem_idx"] >= 9,
            ),
        ),
        "bundle_all_zero": edit_lines(
            rows, rows_with({"reward": 0.0, "scoring_details": {"method": "exact_match"}})
        ),
        "bundle_context_exceeded": edit_lines(rows, failed_rows("context_window_exceeded")),
        "bundle_truncated": edit_lines(
            rows,
            lambda found: [
                {**r, "metadata": {**r["metadata"], "finish_reason": "length"}} if r["problem_idx"] < 4 else r
                for r in found
            ],
        ),
    }
    for name, edit in cases.items():
        derived(name, good, both(edit, rescored))
    derived(
        "bundle_percent_as_share", good,
        edit_json("eval-*.json", lambda d: d["benchmark"]["scores"].update({"mean_reward": {"value": 75.0}})),
    )  # fmt: skip
    derived(
        "bundle_limit", good, edit_json("eval-*.json", lambda d: d["config"].update({"max_problems": 12}))
    )
    derived("bundle_without_rows", good, lambda p: (p / rows).unlink())
    derived("bundle_rows_twice", good, edit_lines(rows, lambda found: found + found[-2:]))


# NeMo-Skills, alone and inside the launcher


def skills_rows(repeat: int) -> list[dict[str, Any]]:
    """One `output-rs<k>.jsonl`."""
    return [
        {
            "id": f"q{i}", "problem": f"Question {i}?", "expected_answer": str(i), "generation": f"It is {i + repeat}.",
            "predicted_answer": str(i + repeat), "symbolic_correct": right(i, repeat),
            "judgement": f"Reasoning: compared.\nJudgement: {'Yes' if right(i, repeat) else 'No'}",
            "num_generated_tokens": 20 + i, "subset_for_metrics": ["a", "b"][i % 2],
        }
        for i in range(ITEMS)
    ]  # fmt: skip


def skills_metrics(name: str) -> dict[str, Any]:
    """`metrics.json` of two repeats."""
    mean = 100.0 * sum(right(i, k) for i in range(ITEMS) for k in range(REPEATS)) / (ITEMS * REPEATS)
    first = 100.0 * sum(right(i) for i in range(ITEMS)) / ITEMS
    one = {"num_entries": ITEMS, "avg_tokens": 25, "gen_seconds": 9}
    return {
        name: {
            "pass@1[avg-of-1]": {**one, "symbolic_correct": first, "judge_correct": first, "no_answer": 0.0},
            "pass@1[avg-of-2]": {**one, "symbolic_correct": mean, "judge_correct": mean, "no_answer": 0.0},
            "pass@2": {**one, "symbolic_correct": 100.0, "judge_correct": 100.0, "no_answer": 0.0},
        }
    }


def skills() -> None:
    """A judged benchmark, and the judge that failed."""
    good = fresh(GOOD / "nemo_skills") / "mini_judged"
    write(good / "metrics.json", skills_metrics("mini_judged"))
    for k in range(REPEATS):
        write(good / f"output-rs{k}.jsonl", skills_rows(k))
    empty = rows_with({"judgement": ""}, lambda r: r["id"] in ("q1", "q2", "q3"))
    derived("skills_judge_401", GOOD / "nemo_skills", edit_lines("output-rs1.jsonl", empty))
    derived("skills_rows_lost", GOOD / "nemo_skills", edit_lines("output-rs0.jsonl", lambda rows: rows[:-3]))
    derived(
        "skills_still_running", GOOD / "nemo_skills",
        lambda p: write(p / "mini_judged" / "output-rs1.jsonl-async", '{"id": "q9"}\n'),
    )  # fmt: skip


RESULTS_YML = """command: nemo-evaluator run_eval --eval_type {type}
config:
  output_dir: /results
  type: {type}
  params:
    limit_samples: null
    max_new_tokens: 4096
    max_retries: 5
    parallelism: 16
    temperature: 0.6
    top_p: 0.95
    request_timeout: 3600
    extra:
      num_repeats: {repeats}
      judge:
        model_id: judge-model
        url: https://judge.example/v1
git_hash: 0a1b2c3d
results:
  groups: {{}}
  tasks:
    {task}:
      metrics:
        {metric}:
          scores:
            {score}:
              stats: {{}}
              value: {value}
            num_entries:
              stats: {{}}
              value: {entries}
target:
  api_endpoint:
    model_id: demo
    type: chat
    url: http://localhost:8000/v1/chat/completions
"""
STATS = {
    "response_stats": {
        "count": 24, "successful_count": 24, "avg_completion_tokens": 26.0, "finish_reason": {"stop": 24},
        "status_codes": {"200": 24}, "avg_latency_ms": 900.0,
    }
}  # fmt: skip


def launcher_job(place: Path, *, rows: bool, **fields: Any) -> None:
    """One job of the launcher as it lies on disk after a run."""
    values = {
        "type": "mini_gpqa", "task": "mini_gpqa", "metric": "pass@1[avg-of-2]", "score": "symbolic_correct",
        "value": 75.0, "entries": ITEMS, "repeats": REPEATS, **fields,
    }  # fmt: skip
    values["value"] = fields.get("value", skills_metrics("x")["x"]["pass@1[avg-of-2]"]["symbolic_correct"])
    artifacts = place / "artifacts"
    write(artifacts / "results.yml", RESULTS_YML.format(**values))
    write(artifacts / "eval_factory_metrics.json", STATS)
    write(place / "logs" / "stage.exit", "2026-11-20T11:00:00Z 0\n")
    write(
        place / "logs" / "client_stdout.log",
        "INFO evaluating the author's questions\nWARNING attempt 1/5 failed: 429 rate limit, will retry\n",
    )
    if rows:
        for k in range(REPEATS):
            write(artifacts / "eval-results" / "mini_gpqa" / f"output-rs{k}.jsonl", skills_rows(k))


def launcher() -> None:
    """A complete invocation, and the failures of the day-0 batch."""
    job = fresh(GOOD / "nemo_launcher") / "20261120_100000-ab12" / "0.mini_gpqa"
    launcher_job(job, rows=True)
    bare = fresh(GOOD / "nemo_launcher_without_rows") / "20261120_100000-ab12" / "0.mini_gpqa"
    launcher_job(bare, rows=False)
    good, plain = GOOD / "nemo_launcher", GOOD / "nemo_launcher_without_rows"

    def stats(**changes: Any) -> Edit:
        return edit_json("eval_factory_metrics.json", lambda d: d["response_stats"].update(changes))

    def log(line: str) -> Edit:
        def edit(place: Path) -> None:
            file = min(place.rglob("client_stdout.log"))
            file.write_text(file.read_text() + line + "\n")

        return edit

    def yml(before: str, after: str) -> Edit:
        def edit(place: Path) -> None:
            file = min(place.rglob("results.yml"))
            file.write_text(file.read_text().replace(before, after))

        return edit

    def stage(name: str, text: str) -> Edit:
        def edit(place: Path) -> None:
            logs = min(place.rglob("logs"))
            (logs / "stage.exit").unlink()
            write(logs / name, text)

        return edit

    def without_results(place: Path) -> None:
        min(place.rglob("results.yml")).unlink()

    derived("launcher_limit", good, yml("limit_samples: null", "limit_samples: 12"))
    derived("launcher_limit_inert", good, yml("limit_samples: null", "limit_samples: 4"))
    derived("launcher_wrong_model_404", plain, both(
        stats(successful_count=0, status_codes={"404": 24}, finish_reason={}), yml("value: 7", "value: 0.0 # 7"),
        log('ERROR 404 {"message": "The model `demo-fp8` does not exist."}')))  # fmt: skip
    derived(
        "launcher_no_key_401", plain, stats(successful_count=0, status_codes={"401": 24}, finish_reason={})
    )
    derived("launcher_truncated", plain, stats(finish_reason={"stop": 15, "length": 9}))
    derived("launcher_judge_401", plain, log("ERROR judge call failed: 401 Unauthorized: Incorrect API key"))
    derived("launcher_judge_401_with_rows", good, log("ERROR judge call failed: 401 Unauthorized"))
    derived("launcher_preempted", good, both(
        stage("stage.running", "2026-11-20T10:10:00Z\n"), without_results,
        log("slurmstepd: error: *** JOB 1 CANCELLED AT 2026-11-20T10:30:00 DUE TO PREEMPTION ***")))  # fmt: skip
    derived("launcher_killed", good, stage("stage.exit", "2026-11-20T10:30:00Z 137\n"))
    derived("launcher_no_kernels", plain, both(
        stage("stage.exit", "2026-11-20T10:05:00Z 1\n"), without_results,
        log("RuntimeError: CUDA error: no kernel image is available for execution on the device")))  # fmt: skip
    derived("launcher_success_without_artifacts", good, without_results)
    derived(
        "launcher_no_sandbox",
        plain,
        log("ERROR sandbox could not be started: not available, continuing without"),
    )
    derived("launcher_tau2_zero", plain, both(
        yml("mini_gpqa", "tau2_bench_telecom"), yml("pass@1[avg-of-2]", "pass@1"),
        yml("symbolic_correct", "pass@1"), yml("value: 7", "value: 0.0 # 7")))  # fmt: skip
    derived("launcher_context_overflow", plain, both(
        stats(successful_count=14, status_codes={"200": 14, "400": 10}),
        log("ERROR 400 This model's maximum context length is 32768 tokens")))  # fmt: skip


# HELM, promptfoo, rows


def stat(name: str, value: float, n: int = 1, split: str = "test") -> dict[str, Any]:
    """One statistic of HELM."""
    return {"name": {"name": name, "split": split}, "count": n, "sum": value * n, "mean": value}


def helm() -> None:
    """A run of HELM with its scenario state."""
    place = fresh(GOOD / "helm") / "mmlu_subject_anatomy_model_demo_base"
    spec = {
        "name": "mmlu:subject=anatomy,model=demo_base",
        "scenario_spec": {"class_name": "helm.MMLUScenario", "args": {"subject": "anatomy"}},
        "adapter_spec": {
            "method": "multiple_choice_joint", "instructions": "Answer with a letter.", "max_train_instances": 5,
            "max_eval_instances": 1000, "num_outputs": 1, "num_train_trials": 1, "model": "demo/base",
            "model_deployment": "local/base", "temperature": 0.0, "max_tokens": 1, "stop_sequences": ["\n"],
        },
        "metric_specs": [{"class_name": "helm.BasicMetric", "args": {"names": ["exact_match"]}}],
    }  # fmt: skip
    mean = sum(right(i) for i in range(24)) / 24
    write(place / "run_spec.json", spec)
    write(place / "stats.json", [stat("exact_match", mean, 24), stat("num_instances", 24.0)])
    rows, states = [], []
    for i in range(24):
        rows.append(
            {
                "instance_id": f"id{i}",
                "train_trial_index": 0,
                "stats": [
                    stat("exact_match", float(right(i))),
                    stat("num_output_tokens", 1.0),
                    stat("finish_reason_stop", 1.0),
                ],
            }
        )
        states.append({
            "instance": {"id": f"id{i}", "input": {"text": f"Question {i}"}, "references": [{"tags": ["correct"]}]},
            "train_trial_index": 0, "request": {"prompt": f"Question {i}\nAnswer:"},
            "result": {"success": True, "cached": False,
                       "completions": [{"text": "ABCD"[i % 4], "finish_reason": {"reason": "stop"}}]}})  # fmt: skip
    write(place / "per_instance_stats.json", rows)
    write(place / "scenario_state.json", {"adapter_spec": spec["adapter_spec"], "request_states": states})

    def fail(document: Any) -> None:
        for state in document["request_states"][:6]:
            state["result"] = {"success": False, "cached": False, "error": "503", "completions": []}

    derived("helm_requests_failed", GOOD / "helm", edit_json("scenario_state.json", fail))
    derived("helm_rows_lost", GOOD / "helm", edit_json("per_instance_stats.json", lambda rows: rows[:20]))


def promptfoo() -> None:
    """An output of promptfoo, and rows that failed in the provider or the grader."""

    def row(i: int, **changes: Any) -> dict[str, Any]:
        good = right(i)
        return {
            "promptIdx": 0, "testIdx": i,
            "testCase": {"vars": {"n": i}, "assert": [{"type": "llm-rubric", "value": "right"}]},
            "prompt": {"raw": "Add {{n}} and 1.", "label": "add"}, "provider": {"id": "openai:chat:demo", "label": ""},
            "vars": {"n": i}, "success": good, "score": float(good), "failureReason": 0 if good else 1,
            "response": {"output": str(i + 1), "tokenUsage": {"completion": 3, "total": 9}, "cached": False},
            "gradingResult": {"pass": good, "score": float(good), "reason": "The answer was compared.",
                "componentResults": [{"pass": good, "score": float(good), "reason": "The answer was compared.",
                                      "assertion": {"type": "llm-rubric", "value": "right"}}]},
            "namedScores": {}, "latencyMs": 12, **changes,
        }  # fmt: skip

    def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
        errors = sum(r["failureReason"] == 2 for r in rows)
        good = sum(r["success"] for r in rows)
        stats = {"successes": good, "failures": len(rows) - good - errors, "errors": errors, "tokenUsage": {}}
        prompts = [{"raw": "Add {{n}} and 1.", "label": "add", "provider": "openai:chat:demo"}]
        config = {
            "description": "adding",
            "providers": [{"id": "openai:chat:demo", "config": {"temperature": 0}}],
        }
        results = {
            "version": 3,
            "timestamp": "2026-11-20T10:00:00Z",
            "prompts": prompts,
            "results": rows,
            "stats": stats,
        }
        return {
            "evalId": "eval-abc",
            "results": results,
            "config": config,
            "metadata": {"promptfooVersion": "0.119.0"},
        }

    write(fresh(GOOD / "promptfoo") / "results.json", document([row(i) for i in range(24)]))
    refused = {"success": False, "score": 0, "failureReason": 2, "error": "API error: 503", "gradingResult": None,
               "response": None}  # fmt: skip
    write(fresh(BAD / "promptfoo_provider_error") / "results.json", document(
        [row(i, **(refused if i < 4 else {})) for i in range(24)]))  # fmt: skip
    ungraded = {"pass": False, "score": 0, "reason": "Could not extract JSON from llm-rubric response",
                "assertion": {"type": "llm-rubric", "value": "right"}}  # fmt: skip
    broken = {
        "success": False,
        "score": 0,
        "failureReason": 1,
        "gradingResult": {
            "pass": False,
            "score": 0,
            "reason": ungraded["reason"],
            "componentResults": [ungraded],
        },
    }
    write(fresh(BAD / "promptfoo_no_grade") / "results.json", document(
        [row(i, **(broken if i % 5 == 0 else {})) for i in range(24)]))  # fmt: skip
    short = document([row(i) for i in range(24)])
    short["results"]["results"] = short["results"]["results"][:-5]
    write(fresh(BAD / "promptfoo_rows_lost") / "results.json", short)


def plain_rows() -> None:
    """JSONL and CSV of somebody's own harness."""
    rows = [
        {
            "id": f"a{i}",
            "task": "adding",
            "score": float(right(i)),
            "prompt": f"Add {i} and 1.",
            "output": str(i + 1),
        }
        for i in range(24)
    ]
    write(fresh(GOOD / "rows_jsonl") / "rows.jsonl", rows)
    lines = [
        "id,score,prompt,output,tokens",
        *(f"a{i},{int(right(i))},Add {i} and 1.,{i + 1},3" for i in range(24)),
    ]
    write(fresh(GOOD / "rows_csv") / "adding.csv", "\n".join(lines) + "\n")
    write(
        fresh(BAD / "rows_unscored") / "rows.jsonl",
        [{**r, "score": None} if i < 3 else r for i, r in enumerate(rows)],
    )
    write(fresh(BAD / "rows_twice") / "rows.jsonl", [*rows, rows[0]])
    write(fresh(BAD / "rows_half_line") / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows)[:-40])


# complete, valid, comparable, and worse: nothing but the comparison finds these


def pairs(name: str, *, kept: int, lost: int, won: int, wrong: int) -> None:
    """Two sides of one task by the four counts of their pairs."""
    sides = [(1, 1)] * kept + [(1, 0)] * lost + [(0, 1)] * won + [(0, 0)] * wrong
    place = fresh(BAD / name)
    for column, side in enumerate(("baseline", "candidate")):
        rows = [{"id": f"q{i}", "task": name, "score": pair[column]} for i, pair in enumerate(sides)]
        write(place / f"{side}.jsonl", rows)


def quality() -> None:
    """Checkpoints without a fault that answer worse; and a drop that the data do not carry."""
    pairs("loss_awq_gemma", kept=330, lost=98, won=16, wrong=56)
    pairs("loss_nvfp4_math", kept=130, lost=175, won=20, wrong=175)
    pairs("loss_arc_easy", kept=156, lost=15, won=6, wrong=123)


# derived from real files


def real_edits() -> None:
    """One edit of a real folder each."""
    samples = "samples_skills_add_*.jsonl"
    good = GOOD / "lm_eval"
    derived("lm_eval_appended", good, edit_lines(samples, lambda rows: rows + rows[:6]))
    derived("lm_eval_rows_lost", good, edit_lines(samples, lambda rows: rows[:-4]))
    derived("lm_eval_score_edited", good, edit_json(
        "results_*.json", lambda d: d["results"]["skills_add"].update({"exact_match,none": 0.99})))  # fmt: skip
    derived("lm_eval_crashed", good, lambda p: min(p.glob("results_*")).unlink())
    derived("lm_eval_all_zero", good, both(
        edit_lines("samples_skills_add_*.jsonl", rows_with({"exact_match": 0.0})),
        edit_lines("samples_skills_tool_*.jsonl", rows_with({"exact_match": 0.0})),
        edit_json("results_*.json", lambda d: [
            d["results"][t].update({"exact_match,none": 0.0})
            for t in ("skills_add", "skills_tool")] and None)))  # fmt: skip
    derived(
        "lm_eval_other_prompt",
        GOOD / "lm_eval_again",
        edit_lines(samples, rows_with({"prompt_hash": "0" * 64})),
    )
    derived("lm_eval_other_task_version", GOOD / "lm_eval_again", edit_json(
        "results_*.json", lambda d: d["versions"].update({"skills_add": 2.0})))  # fmt: skip
    derived("lm_eval_other_filter", GOOD / "lm_eval_again", both(
        *(edit_lines(f"samples_{t}_*.jsonl", rows_with({"filter": "flexible-extract"}))
          for t in ("skills_add", "skills_tool")),
        edit_json("results_*.json", lambda d: d.update(
            json.loads(json.dumps(d).replace("exact_match,none", "exact_match,flexible-extract")
                       .replace("exact_match_stderr,none", "exact_match_stderr,flexible-extract"))))))  # fmt: skip
    derived("lm_eval_other_kv_dtype", GOOD / "lm_eval_again", edit_json(
        "results_*.json", lambda d: d["config"]["model_args"].update({"kv_cache_dtype": "fp8"})))  # fmt: skip
    archive = min((GOOD / "inspect_eval").glob("*.eval"))
    place = fresh(BAD / "inspect_half_written")
    (place / archive.name).write_bytes(archive.read_bytes()[:20_000])
    bomb = fresh(BAD / "inspect_zip_bomb") / "bomb.eval"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        entry = zipfile.ZipInfo("header.json")  # without the time of day
        entry.compress_type = zipfile.ZIP_DEFLATED
        opened.writestr(entry, " " * (80 << 20))
    entity = '<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n'
    write(fresh(BAD / "junit_entities") / "bomb.xml", entity + '<testsuite name="&b;" tests="1"/>\n')


if __name__ == "__main__":
    bundles()
    skills()
    launcher()
    helm()
    promptfoo()
    plain_rows()
    quality()
    real_edits()
