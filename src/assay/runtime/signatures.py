"""What the end of a server's log means: one table of patterns, each with the failure class that triage reads.

The order is the priority: a cause stands before the lines that only wrap it. Each row is tested against a
recorded log (`tests/recorded/serve`). An exit code alone never means "out of memory": 137 is any SIGKILL.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.run import Run
from assay.core.tuning import Cause
from assay.core.vocabulary import FailureClass

PORT_TAKEN = "a port is taken by another process"
CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


@dataclass(frozen=True)
class Signature:
    """One row. `{1}` in the texts stands for the pattern's first group."""

    pattern: re.Pattern[str]
    failure_class: FailureClass
    what: str
    """The cause in a few words."""
    next: str
    """What a person or the next point of a search should do."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a log."""

    failure_class: FailureClass
    what: str
    next: str
    line: str = ""
    """The line of the log that says so."""
    cause: Cause | None = None
    """In one word, where it is one of the closed list; out of memory counts as while loading."""


def _rows(failure_class: FailureClass, *rows: tuple[str, str, str]) -> tuple[Signature, ...]:
    return tuple(Signature(re.compile(p, re.IGNORECASE), failure_class, what, step) for p, what, step in rows)


SIGNATURES: tuple[Signature, ...] = (
    *_rows(
        FailureClass.POINT_INFEASIBLE,
        (
            r"To serve at least one request.*estimated maximum model length is (\d+)",
            "the KV cache cannot hold one request; the longest context that fits is {1} tokens",
            "set context_tokens to {1} or less, or give the KV cache more memory",
        ),
        (
            r"max seq len \(\d+\) is larger than the maximum number of tokens.*\((\d+)\)",
            "the KV cache cannot hold one request; the longest context that fits is {1} tokens",
            "set context_tokens to {1} or less, or give the KV cache more memory",
        ),
        (
            r"No available memory for the cache blocks",
            "no memory is left for the KV cache",
            "raise gpu_memory_utilization or choose a smaller model",
        ),
        (
            r"Available memory on node .* less than requested memory for kv \(([^)]*)\)",
            "the machine lacks the memory for the KV cache that was asked for ({1})",
            "ask for a smaller KV cache or free memory",
        ),
        (
            r"Not enough memory\. Please try to increase --mem-fraction-static",
            "no memory is left for the KV cache",
            "raise mem_fraction_static or choose a smaller model",
        ),
        (
            r"max[-_]total[-_]tokens.*is larger than the profiled value",
            "the KV cache cannot hold the tokens that were asked for",
            "lower max_total_tokens or raise mem_fraction_static",
        ),
        (
            r"failed to allocate buffer for kv cache",
            "the machine lacks the memory for the KV cache",
            "lower context_tokens or slots, or quantize the KV cache",
        ),
        (
            r"model requires more system memory \(([^)]*)\) than is available \(([^)]*)\)",
            "the model needs {1} and {2} are free",
            "choose a smaller model, a smaller context or fewer slots",
        ),
        (
            r"Executor creation failed due to insufficient GPU memory",
            "the machine lacks the memory for the engine",
            "lower slots, batch_tokens or kv_cache_free_frac, or choose a smaller model",
        ),
        (
            r"\[metal::malloc\] (Attempting to allocate \d+ bytes|Resource limit \(\d+\) exceeded)",
            "the accelerator takes no further buffer ({1})",
            "lower prefill_tokens or slots, or choose a smaller context",
        ),
        (
            r"No requests can be scheduled and no requests can be offloaded",
            "the KV cache is too small for one request",
            "raise kv_blocks",
        ),
        (
            (
                r"(torch\.(?:cuda\.)?OutOfMemoryError|(?:CUDA|HIP) out of memory|std::bad_alloc"
                r"|^\s*MemoryError\b"
                r"|CUDNN_STATUS_ALLOC_FAILED|cudaMalloc failed: out of memory|can't allocate memory"
                r"|ggml_aligned_malloc: insufficient memory|failed to allocate \w+ buffer"
                r"|unable to allocate \w+ buffer|CUDA runtime error in [^\n]*: out of memory"
                r"|kIOGPUCommandBufferCallbackErrorOutOfMemory|Cannot allocate memory"
                r"|failed to map segment from shared object)"
            ),
            "out of memory ({1})",
            "choose a smaller model, a smaller context or fewer slots",
        ),
    ),
    *_rows(
        FailureClass.INFRA_TRANSIENT,
        (
            (
                r"(address already in use|couldn't bind HTTP server socket|\bEADDRINUSE\b"
                r"|port \d+ is not available in \d+ seconds)"
            ),
            PORT_TAKEN,
            "leave port at 0, or end the other process",
        ),
        (
            r"No space left on device|Disk quota exceeded",
            "no space left on the disk",
            "free space, then `assay resume`",
        ),
        (
            (
                r"(Temporary failure in name resolution|Name or service not known"
                r"|Max retries exceeded with url"
                r"|(?:429|50[0234]) (?:Client|Server) Error"
                r"|Consistency check failed: file should be of size \d+ but has size \d+)"
            ),
            "the network or a remote host failed ({1})",
            "use local files, or try again later",
        ),
    ),
    *_rows(
        FailureClass.USER_CONFIG_ERROR,
        (
            r"(GatedRepoError|Cannot access gated repo|Access to model \S+ is restricted|(?:401|403) Client Error)",
            "the model hub refuses access ({1})",
            "accept the model's licence and log in, or use local files",
        ),
        (
            r"error: (unrecognized arguments: .*|argument .*|the following arguments are required: .*)",
            "the server does not take its command line: {1}",
            "correct extra_args or the option that makes this flag",
        ),
        (
            r"(No such option:? ?'?[^\s']+|invalid value for '?-.*|invalid argument: \S+)",
            "the server does not take its command line: {1}",
            "correct extra_args or the option that makes this flag",
        ),
        (
            r"max_num_batched_tokens \((\d+)\) must be greater than or equal to max_num_seqs \((\d+)\)",
            "max_num_batched_tokens ({1}) is smaller than slots ({2})",
            "raise max_num_batched_tokens",
        ),
        (
            r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(\D*(\d+)",
            "context_tokens {1} is more than the model's own {2}",
            "set context_tokens to {2} or less",
        ),
        (
            r"invalid literal for int\(\) with base 10: ('[^']*')",
            "{1} is not a whole number where the server needs one",
            "correct the option or environment variable with that value",
        ),
        (
            r"(quantized V cache requires flash_attn|cache type \S+ with block size \d+ does not divide \S+)",
            "the KV cache type does not fit: {1}",
            "choose another kv_type, or set flash_attention to on",
        ),
        (
            r"Cannot find the config file for (\w+)",
            "the checkpoint is not quantized with {1} as the server was told",
            "leave the option quantization away",
        ),
        (
            (
                r"(Repo id must be in the form .*? '[^']*'"
                r"|(?:failed to open|cannot open|failed to load) GGUF file.*"
                r"|gguf_init_from_file: failed to open.*|no such file or directory: .*)"
            ),
            "the checkpoint is not there: {1}",
            "name an existing checkpoint",
        ),
    ),
    *_rows(
        FailureClass.MODEL_UNSUPPORTED,
        (
            (
                r"(Invalid quantization method(?: on \w+)?: ?\S+"
                r"|quantization method \S+ is not supported for the current GPU"
                r"|Unknown quantization (?:method|type)[^.\n]{0,60})"
            ),
            "the engine cannot serve this quantization: {1}",
            "choose a recipe that this engine and device can serve",
        ),
        (
            (
                r"(Model architectures? \[[^\]]*\] (?:are|is) not supported"
                r"|unknown model architecture: '[^']*'"
                r"|model of type `?\S+`? but Transformers does not recognize this architecture)"
            ),
            "the engine does not know this model: {1}",
            "choose another engine or a newer version of it",
        ),
    ),
    *_rows(
        FailureClass.DEPLOYMENT_HEALTH_FAILED,
        (
            (
                r"(SafetensorError.*|Error while deserializing header.*"
                r"|cannot fit 'int' into an index-sized integer)"
            ),
            "the weights cannot be read: {1}",
            "compare the file's digest with its source and copy or build it again",
        ),
        (
            r"(digest mismatch, file must be downloaded again|(?:checksum|hash|signature) mismatch[^\n]{0,80})",
            "the weights are not what their registry says ({1})",
            "fetch them again, and compare the digest with the publisher's",
        ),
        (
            (
                r"(invalid magic characters.*|failed to read (?:magic|header|key-value|tensor).*"
                r"|tensor '[^']*' data is not within the file bounds.*|error loading model: .*)"
            ),
            "the GGUF file cannot be read: {1}",
            "compare the file's digest with its source and build it again",
        ),
        (
            r"(EngineDeadError|Worker proc \S+ died unexpectedly|cb_worker_dead|CB worker is dead)",
            "a worker process of the server died",
            "read the log above that line",
        ),
        (
            r"Initialization failed\. warmup error",
            "the server's own warm-up request failed",
            "read the log above that line",
        ),
        (
            (
                r"(CUDA driver version is insufficient[^\n]{0,80}|no CUDA-capable device is detected"
                r"|no kernel image is available for execution on the device"
                r"|NVIDIA-SMI has failed[^\n]{0,80}|ggml_cuda_init: failed to initialize CUDA[^\n]{0,80}"
                r"|hipErrorNoDevice[^\n]{0,40})"
            ),
            "the accelerator or its driver does not work ({1})",
            "run the driver's own tool, then `assay doctor`",
        ),
    ),
)
"""All known causes, the most telling first."""

UNSOUND: tuple[Signature, ...] = _rows(
    FailureClass.MODEL_UNSUPPORTED,
    (
        r"Unknown quantization type, got (\S+)",
        "the server ignores the quantization ({1}) and answers from weights without their scales",
        "serve it with an engine that knows this format, or convert it",
    ),
    (
        r"^\s*(\S*(?:scale|zero_point|qweight|qzeros|packed)\S*)\s*\|\s*UNEXPECTED\b",
        "the server left the checkpoint's {1} aside and answers from weights without their scales",
        "serve it with an engine that knows this format, or convert it",
    ),
    (
        r"^\s*(\S+)\s*\|\s*(MISSING|MISMATCH)\b",
        "the server started with weights that are not the checkpoint's ({1}: {2})",
        "check that the checkpoint's tensor names and shapes fit its config.json",
    ),
)
"""Lines after which a server runs, but not the model that it was given. Only such a line tells."""

_CAUSES: Mapping[str, Cause] = {
    "the KV cache cannot hold one request; the longest context that fits is {1} tokens": Cause.TOO_LONG,
    "no memory is left for the KV cache": Cause.OOM_LOAD,
    "the machine lacks the memory for the KV cache that was asked for ({1})": Cause.OOM_LOAD,
    "the KV cache cannot hold the tokens that were asked for": Cause.TOO_LONG,
    "the machine lacks the memory for the KV cache": Cause.OOM_LOAD,
    "the KV cache is too small for one request": Cause.TOO_LONG,
    "the model needs {1} and {2} are free": Cause.OOM_LOAD,
    "the machine lacks the memory for the engine": Cause.OOM_LOAD,
    "the accelerator takes no further buffer ({1})": Cause.OOM_LOAD,
    "the weights are not what their registry says ({1})": Cause.INTEGRITY,
    "out of memory ({1})": Cause.OOM_LOAD,
    "the accelerator or its driver does not work ({1})": Cause.DRIVER,
    PORT_TAKEN: Cause.PORT,
    "no space left on the disk": Cause.DISK,
    "the network or a remote host failed ({1})": Cause.NETWORK,
    "the model hub refuses access ({1})": Cause.GATED,
    "the server does not take its command line: {1}": Cause.BAD_FLAG,
    "max_num_batched_tokens ({1}) is smaller than slots ({2})": Cause.BAD_FLAG,
    "context_tokens {1} is more than the model's own {2}": Cause.TOO_LONG,
    "{1} is not a whole number where the server needs one": Cause.BAD_FLAG,
    "the KV cache type does not fit: {1}": Cause.BAD_FLAG,
    "the checkpoint is not quantized with {1} as the server was told": Cause.BAD_FLAG,
    "the checkpoint is not there: {1}": Cause.INTEGRITY,
    "the engine cannot serve this quantization: {1}": Cause.ARCHITECTURE,
    "the engine does not know this model: {1}": Cause.ARCHITECTURE,
    "the weights cannot be read: {1}": Cause.INTEGRITY,
    "the GGUF file cannot be read: {1}": Cause.INTEGRITY,
    "a worker process of the server died": Cause.CRASH,
    "the server's own warm-up request failed": Cause.CRASH,
}
"""What a row says → its cause in one word. Each row of the table has one."""

_CRASHES = frozenset(
    {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
)
_OFFLOAD = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def find(text: str, table: Iterable[Signature] = SIGNATURES) -> Diagnosis | None:
    """The first row of a table that matches a line of the text; None if none does."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _ANSI.sub("", text))]
    for row in table:
        for line in lines:
            if match := row.pattern.search(line):
                what, step = _filled(row.what, match), _filled(row.next, match)
                return Diagnosis(row.failure_class, what, step, line[:400], _CAUSES.get(row.what))
    return None


def offloaded(text: str) -> tuple[int, int] | None:
    """Layers on the accelerator and layers in all, as llama.cpp and Ollama tell; None if the log does not say.

    Fewer than all is no failure, but such a server is many times slower than one that fits.
    """
    found = _OFFLOAD.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def diagnose(run: Run, text: str, *, oom_kills: int = 0) -> Diagnosis:
    """Why a server ended although nobody asked it to.

    Args:
        run: the ended run.
        text: its whole log.
        oom_kills: how often the kernel killed for lack of memory while it ran.
    """
    if found := find(text):
        return found
    code = run.exit_code or 0
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if number == signal.SIGKILL and oom_kills > 0:
        return Diagnosis(
            FailureClass.POINT_INFEASIBLE,
            "the kernel killed it for lack of memory",
            "choose a smaller model, a smaller context or fewer slots",
            cause=Cause.OOM_LOAD,
        )
    if number in _CRASHES:
        return Diagnosis(
            FailureClass.DEPLOYMENT_HEALTH_FAILED,
            f"it crashed ({signal.Signals(number).name})",
            "serve the checkpoint alone with the recorded command",
            cause=Cause.CRASH,
        )
    if number:
        return Diagnosis(
            FailureClass.INFRA_TRANSIENT,
            f"something outside Assay ended it ({_signal_name(number)}); its log does not say why",
            "look in the system's log for who did, then `assay resume`",
        )
    # What argparse, click and getopt programs return.
    if code == 2:
        return Diagnosis(
            FailureClass.USER_CONFIG_ERROR,
            "it does not take its command line",
            "correct extra_args or the options",
            cause=Cause.BAD_FLAG,
        )
    return Diagnosis(
        FailureClass.DEPLOYMENT_HEALTH_FAILED,
        "its log names no cause that Assay knows",
        "read the log tail",
        cause=Cause.CRASH,
    )


def oom_kills() -> int:
    """How often the kernel killed in this control group for lack of memory; 0 if that cannot be read."""
    try:
        rows = dict(line.split() for line in CGROUP_EVENTS.read_text("ascii").splitlines())
        return int(rows.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def _filled(text: str, match: re.Match[str]) -> str:
    for number, group in enumerate(match.groups(), 1):
        text = text.replace(f"{{{number}}}", (group or "").strip()[:200])
    return text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
