"""A tiny harness: asks a running server the first questions of some slices and writes lm-eval's files.

`python -I -S harness.py BASE_URL MODEL OUT DATA N SLICE...` with standard library only; instead of N, a JSON file of
slice → numbers of the questions to ask. Greedy and one at a time, so
that the same server gives the same bytes again; nothing that it writes depends on the clock. While the file that
`TWIN_HOLD` names is there it waits after its first answer, so that a test can strike in the middle. `TWIN_NOISE`
percent of the answers are lost, other ones in every run, as with a server that is not the same twice.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STAMP = "2026-01-01T00-00-00.000000"


def sha(value: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def ask(base_url: str, model: str, question: str) -> str:
    """One greedy answer."""
    url = urlsplit(base_url)
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "seed": 0}
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.request(
        "POST",
        f"{url.path}/chat/completions",
        json.dumps({**body, "max_tokens": 24}),
        {"Content-Type": "application/json", "Connection": "close"},
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"the server answered {answer.status}: {answer.read()[:300]!r}")
    return str(json.load(answer)["choices"][0]["message"]["content"] or "").strip()


def hold() -> None:
    """Wait as long as the test says."""
    while os.path.exists(os.environ.get("TWIN_HOLD", "")):  # noqa: PTH110 - an empty name is no path
        time.sleep(0.02)


def lost(out: Path, question: str) -> bool:
    """Whether this run loses the answer."""
    return int(sha([str(out), question])[:8], 16) % 100 < int(os.environ.get("TWIN_NOISE", "0"))


def row(number: int, doc: dict[str, str], answer: str) -> dict[str, Any]:
    """One sample as lm-eval logs it."""
    return {
        "doc_id": number,
        "doc": doc,
        "target": doc["answer"],
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": sha(doc),
        "prompt_hash": sha(doc["question"]),
        "target_hash": sha(doc["answer"]),
        "exact_match": float(answer == doc["answer"]),
    }


def asked_of(which: str, slices: list[str]) -> dict[str, list[int]]:
    """Slice → numbers of the questions to ask; slices without any are left out."""
    if which.isdecimal():
        return {name: list(range(int(which))) for name in slices}
    listed = json.loads(Path(which).read_text())
    return {name: listed[name] for name in slices if listed.get(name)}


def main(base_url: str, model: str, out: Path, data: Path, asked: dict[str, list[int]]) -> None:
    """Ask and write."""
    scores: dict[str, float] = {}
    for name, numbers in asked.items():
        lines = (data / f"{name}.jsonl").read_text().splitlines()
        rows = []
        for number in numbers:
            doc = json.loads(lines[number])
            answer = ask(base_url, model, doc["question"])
            rows.append(row(number, doc, "" if lost(out, doc["question"]) else answer))
            hold()
        scores[name] = sum(r["exact_match"] for r in rows) / len(rows)
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (out / f"samples_{name}_{STAMP}.jsonl").write_text(text)
    document = {
        "results": {name: {"alias": name, "exact_match,none": score} for name, score in scores.items()},
        "configs": {name: {"metric_list": [{"metric": "exact_match"}]} for name in asked},
        "versions": dict.fromkeys(asked, 1.0),
        "n-shot": dict.fromkeys(asked, 0),
        "higher_is_better": {name: {"exact_match": True} for name in asked},
        "n-samples": {name: {"original": len(n), "effective": len(n)} for name, n in asked.items()},
        "config": {"model": "local-chat-completions", "model_args": {"model": model}, "limit": None},
        "lm_eval_version": "0.4.13",
    }
    (out / f"results_{STAMP}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), asked_of(sys.argv[5], sys.argv[6:]))
