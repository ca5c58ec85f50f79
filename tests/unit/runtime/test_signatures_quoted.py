"""Failure signatures of engines that do not run here, against lines quoted from public threads and sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.core.run import Run
from assay.core.tuning import Cause
from assay.core.vocabulary import FailureClass as F
from assay.runtime import signatures

RECORDED = Path(__file__).parents[2] / "recorded" / "serve"
EXPECTED = {
    "hub/digest-mismatch": (F.DEPLOYMENT_HEALTH_FAILED, Cause.INTEGRITY, "not what their registry says"),
    "hub/gated": (F.USER_CONFIG_ERROR, Cause.GATED, "refuses access"),
    "hub/partial-file": (F.INFRA_TRANSIENT, Cause.NETWORK, "should be of size 492265168"),
    "llama_cpp/unable-to-allocate": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "unable to allocate Vulkan0 buffer"),
    "mlx_lm/buffer-too-large": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "allocate 48736917632 bytes"),
    "mlx_lm/command-buffer-oom": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "out of memory"),
    "mlx_lm/resource-limit": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "Resource limit (499000)"),
    "ollama/cuda-oom-at-load": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "cudaMalloc failed"),
    "ollama/needs-more-memory": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "needs 164.8 GiB and 13.4 GiB are free"),
    "tensorrt_llm/cuda-malloc": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "out of memory"),
    "tensorrt_llm/executor-no-memory": (F.POINT_INFEASIBLE, Cause.OOM_LOAD, "lacks the memory"),
}


def log(name: str) -> str:
    """The quoted lines."""
    return (RECORDED / f"{name}.log").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_quoted_failures_get_their_class_and_cause(name: str) -> None:
    """Each is told by its cause; the file says that it is quoted, and from where."""
    about = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    assert about["origin"] == "quoted"
    assert about["source"]
    run = Run(label="serve", command=("s",), cwd="/", log="l", started="", exit_code=about["returncode"])
    found = signatures.diagnose(run, log(name))
    failure_class, cause, told = EXPECTED[name]
    assert (found.failure_class, found.cause) == (failure_class, cause)
    assert told in found.what
    assert "{" not in found.what + found.next


def test_layers_left_on_the_cpu_are_no_failure_and_are_told() -> None:
    """A server with 13 of 62 layers on its accelerator serves; whoever reads its speed must know."""
    text = log("ollama/partial-offload")
    assert signatures.find(text) is None
    assert signatures.offloaded(text) == (13, 62)
    assert signatures.offloaded("nothing of layers") is None


def test_every_row_has_a_cause() -> None:
    """No failure is without its one word."""
    assert {row.what for row in signatures.SIGNATURES} == set(signatures._CAUSES)
