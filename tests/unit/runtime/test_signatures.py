"""Failure signatures, against the logs of real servers (see tests/recorded/serve)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.run import Run
from assay.core.vocabulary import FailureClass as F
from assay.runtime import signatures

RECORDED = Path(__file__).parents[2] / "recorded" / "serve"

EXPECTED = {
    "llama_cpp/bad-kv-type": (F.USER_CONFIG_ERROR, "quantized V cache requires flash_attn"),
    "llama_cpp/corrupt-bad-magic": (F.DEPLOYMENT_HEALTH_FAILED, "invalid magic"),
    "llama_cpp/corrupt-empty": (F.DEPLOYMENT_HEALTH_FAILED, "failed to read magic"),
    "llama_cpp/corrupt-truncated-header": (F.DEPLOYMENT_HEALTH_FAILED, "failed to read key-value"),
    "llama_cpp/corrupt-truncated": (F.DEPLOYMENT_HEALTH_FAILED, "not within the file bounds"),
    "llama_cpp/killed-while-loading": (F.INFRA_TRANSIENT, "SIGKILL"),
    "llama_cpp/kv-too-big": (F.POINT_INFEASIBLE, "memory for the KV cache"),
    "llama_cpp/kv-too-big-default-verbosity": (F.POINT_INFEASIBLE, "memory for the KV cache"),
    "llama_cpp/missing-file": (F.USER_CONFIG_ERROR, "the checkpoint is not there"),
    "llama_cpp/port-in-use": (F.INFRA_TRANSIENT, "a port is taken"),
    "llama_cpp/unknown-flag": (F.USER_CONFIG_ERROR, "--no-such-flag"),
    "sglang/internal-port-in-use": (F.INFRA_TRANSIENT, "a port is taken"),
    "sglang/kv-pool-too-small": (F.POINT_INFEASIBLE, "no memory is left for the KV cache"),
    "sglang/kv-profiled-negative": (F.POINT_INFEASIBLE, "KV cache"),
    "sglang/oom-at-load": (F.POINT_INFEASIBLE, "out of memory"),
    "sglang/port-in-use": (F.INFRA_TRANSIENT, "a port is taken"),
    "sglang/unsupported-quantization": (F.MODEL_UNSUPPORTED, "awq_marlin"),
    "sglang/unsupported-quantization-gpu": (F.MODEL_UNSUPPORTED, "awq"),
    "sglang/uvicorn-up-warmup-failed": (F.DEPLOYMENT_HEALTH_FAILED, "warm-up"),
    "transformers/corrupt-header": (F.DEPLOYMENT_HEALTH_FAILED, "header too large"),
    "transformers/corrupt-truncated": (F.DEPLOYMENT_HEALTH_FAILED, "not fully covered"),
    "transformers/killed-while-loading": (F.INFRA_TRANSIENT, "SIGKILL"),
    "transformers/kv-blocks-too-few": (F.POINT_INFEASIBLE, "too small for one request"),
    "transformers/kv-too-big": (F.POINT_INFEASIBLE, "out of memory"),
    "transformers/missing-file": (F.USER_CONFIG_ERROR, "the checkpoint is not there"),
    "transformers/oom-at-load": (F.POINT_INFEASIBLE, "out of memory"),
    "transformers/port-in-use": (F.INFRA_TRANSIENT, "a port is taken"),
    "transformers/unknown-flag": (F.USER_CONFIG_ERROR, "--no-such-flag"),
    "vllm/bad-batched-tokens": (F.USER_CONFIG_ERROR, "max_num_batched_tokens (2) is smaller than slots (4)"),
    "vllm/corrupt-safetensors-header": (F.DEPLOYMENT_HEALTH_FAILED, "weights cannot be read"),
    "vllm/corrupt-safetensors-truncated": (F.DEPLOYMENT_HEALTH_FAILED, "not fully covered"),
    "vllm/engine-core-killed-while-serving": (F.DEPLOYMENT_HEALTH_FAILED, "worker process"),
    "vllm/killed-while-loading": (F.INFRA_TRANSIENT, "SIGKILL"),
    "vllm/kv-env-not-integer": (F.USER_CONFIG_ERROR, "'0.5' is not a whole number"),
    "vllm/kv-no-memory": (F.POINT_INFEASIBLE, "memory for the KV cache"),
    "vllm/kv-too-large": (F.POINT_INFEASIBLE, "64.0 GiB"),
    "vllm/kv-too-small": (F.POINT_INFEASIBLE, "the longest context that fits is 1408 tokens"),
    "vllm/max-model-len-too-large": (F.USER_CONFIG_ERROR, "100000 is more than the model's own 8192"),
    "vllm/missing-model-folder": (F.USER_CONFIG_ERROR, "the checkpoint is not there"),
    "vllm/oom-at-load": (F.POINT_INFEASIBLE, "out of memory"),
    "vllm/port-in-use": (F.INFRA_TRANSIENT, "a port is taken"),
    "vllm/unknown-flag": (F.USER_CONFIG_ERROR, "--no-such-flag"),
    "vllm/unsupported-quantization": (F.USER_CONFIG_ERROR, "not quantized with awq"),
}
HEALTHY = ("ready", "sigterm-idle", "sigint-idle", "loading-503")


def ended(code: int | None) -> Run:
    """A run that ended with that code."""
    return Run(label="serve", command=("server",), cwd="/", log="log", started="", exit_code=code)


def recorded(name: str) -> tuple[Run, str]:
    """A recorded run and its log."""
    about = json.loads((RECORDED / f"{name}.json").read_text())
    log = (RECORDED / f"{name}.log").read_text("utf-8", "replace")
    return ended(about.get("returncode", about.get("exit_code"))), log


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_failures_get_their_class_and_cause(name: str) -> None:
    """Each recorded failure is told by its cause, not by the line that wraps it."""
    failure_class, told = EXPECTED[name]
    found = signatures.diagnose(*recorded(name))
    assert found.failure_class is failure_class
    assert told in found.what
    assert found.next
    assert "{" not in found.what + found.next


@pytest.mark.parametrize(
    "name",
    sorted(f"{p.parent.name}/{p.stem}" for p in RECORDED.glob("*/*.log") if p.stem.startswith(HEALTHY)),
)
def test_a_healthy_log_holds_no_signature(name: str) -> None:
    """Banner, warnings and request lines of servers that worked match nothing."""
    _, log = recorded(name)
    assert signatures.find(log) is None
    assert signatures.find(log, signatures.UNSOUND) is None


@pytest.mark.parametrize("code", [-9, 137])
def test_sigkill_alone_is_never_out_of_memory(code: int) -> None:
    """137 is any SIGKILL; only the kernel's own count makes it a lack of memory."""
    found = signatures.diagnose(ended(code), "loading ...")
    assert found.failure_class is F.INFRA_TRANSIENT
    assert "memory" not in found.what
    found = signatures.diagnose(ended(code), "loading ...", oom_kills=1)
    assert found.failure_class is F.POINT_INFEASIBLE


@pytest.mark.parametrize(
    ("code", "failure_class"),
    [
        (-15, F.INFRA_TRANSIENT),
        (143, F.INFRA_TRANSIENT),
        (-11, F.DEPLOYMENT_HEALTH_FAILED),
        (134, F.DEPLOYMENT_HEALTH_FAILED),
        (2, F.USER_CONFIG_ERROR),
        (1, F.DEPLOYMENT_HEALTH_FAILED),
        (0, F.DEPLOYMENT_HEALTH_FAILED),
    ],
)
def test_an_exit_code_without_a_cause(code: int, failure_class: F) -> None:
    """What a code says when the log says nothing."""
    assert signatures.diagnose(ended(code), "").failure_class is failure_class


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "[transformers] Unknown quantization type, got modelopt - supported types are: ['awq', ...]",
            "ignores the quantization (modelopt)",
        ),
        (
            "model.layers.3.mlp.up_proj.weight              | MISSING | ",
            "model.layers.3.mlp.up_proj.weight: MISSING",
        ),
        ("model.layers.0.mlp.up_proj.weight_scale        | UNEXPECTED | ", "weight_scale aside"),
    ],
)
def test_servers_that_run_without_the_given_weights_are_unsound(line: str, told: str) -> None:
    """These lines were printed by real servers that then said they were healthy."""
    found = signatures.find(f"INFO: ready\n\x1b[1m{line}\x1b[0m\nINFO: serving", signatures.UNSOUND)
    assert found is not None
    assert found.failure_class is F.MODEL_UNSUPPORTED
    assert told in found.what


@given(text=st.text(max_size=300), code=st.integers(-64, 255))
def test_any_log_and_code_give_a_diagnosis(text: str, code: int) -> None:
    """No text makes the table fail, and every ending has a class."""
    found = signatures.diagnose(ended(code), text)
    assert found.failure_class in F
    assert found.what
