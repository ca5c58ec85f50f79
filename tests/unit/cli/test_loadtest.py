"""`assay load`: the table, the JSON, the rows, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.load.rows import read_rows
from cli_call import Call

pytestmark = pytest.mark.slow  # real servers, measured by the clock

SMALL = ("--prompt-tokens", "30", "--output-tokens", "6", "--warmup", "2", "-n", "8")


@pytest.fixture
def url() -> Iterator[str]:
    """A simulated engine."""
    command = [
        sys.executable,
        "-m",
        "assay.testing.engine",
        "--port",
        "0",
        "--ttft-ms",
        "40",
        "--itl-ms",
        "10",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[2]
    process.terminate()
    process.wait(10)
    process.stdout.close()


def test_a_table_for_people(assay: Call, url: str) -> None:
    """A line for each point; what there are not enough samples for says so."""
    said = assay("load", url, "-c", "1,2", *SMALL, "--slo", "ttft_p95=500")
    assert said.code in (0, 5)
    assert "1 in flight" in said.out
    assert "2 in flight" in said.out
    assert "n<59" in said.out
    assert "8/8" in said.out
    assert "not enough" in said.out


def test_json_and_rows(assay: Call, url: str, tmp_path: Path) -> None:
    """Both hold every point; the address may be a whole route, or no route."""
    rows = tmp_path / "rows.jsonl"
    said = assay("load", f"{url}/chat/completions", "-r", "20", *SMALL, "--json", "--out", rows)
    document = said.json
    assert document["schema"] == "load/1"
    (point,) = document["points"]
    assert point["plan"]["arrivals"]["kind"] == "poisson"
    assert (point["completed"], point["token_source"]) == (8, "usage")
    assert point["valid"] is (said.code == 0)
    assert len(read_rows(rows)) == 10
    assert assay("load", url.removesuffix("/v1"), *SMALL, "--json").json["points"][0]["completed"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-c", "4", "-r", "2"), "exclude each other"),
        (("-c", "four"), "no number"),
        (("-c", "0"), "concurrency"),
        (("--slo", "ttft_p95"), "no limit"),
        (("--slo", "nonsense=3"), "nonsense_ms"),
        (("--prompt-tokens", "many"), "no length"),
        (("--extra-body", "{"), "no JSON"),
        (("--trace", "no-such-file"), "cannot read the trace"),
        (("--api-key-env", "NO_SUCH_KEY_HERE"), "not set"),
        (("--burstiness", "-1", "-r", "2"), "burstiness"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(assay: Call, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2, and nothing was sent."""
    assay("load", "http://127.0.0.1:1/v1", *arguments).refused(2, words)


def test_no_server(assay: Call) -> None:
    """Exit code 6, and the address."""
    assay("load", "http://127.0.0.1:1/v1", "--model", "m").refused(6, "127.0.0.1:1", "no connection")


@pytest.mark.slow
def test_interrupting_prints_what_was_measured(url: str) -> None:
    """SIGINT to the process: exit code 130, the table marked, no traceback."""
    command = [sys.executable, "-m", "assay", "load", url, "-c", "4", *SMALL[:-1], "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3.5)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "4 in flight" in out
    assert "Traceback" not in err
