"""llama.cpp's own HTTP server out of the xllamacpp wheel, as a process of its own.

It takes the flags of `llama-server` that Assay uses, so that one command line serves both. Standard library
and xllamacpp only: the interpreter that runs this has no `assay`. It serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from typing import Any

FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


def parser() -> argparse.ArgumentParser:
    """The flags, named and meant as in `llama-server`."""
    flags = argparse.ArgumentParser(prog="llama_launcher", allow_abbrev=False)
    flags.add_argument("-m", "--model", required=True, help="GGUF file")
    flags.add_argument("--alias", required=True, help="model id that it answers to")
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("-c", "--ctx-size", type=int, required=True, help="tokens over all slots")
    flags.add_argument("-np", "--parallel", type=int, required=True, help="slots")
    flags.add_argument("-t", "--threads", type=int, required=True)
    flags.add_argument("-b", "--batch-size", type=int, default=2048)
    flags.add_argument("-ub", "--ubatch-size", type=int, default=512)
    flags.add_argument("-ctk", "--cache-type-k", default="f16")
    flags.add_argument("-ctv", "--cache-type-v", default="f16")
    flags.add_argument("-fa", "--flash-attn", default="auto", choices=sorted(FLASH_ATTENTION))
    flags.add_argument("-kvu", "--kv-unified", action="store_true")
    flags.add_argument("-cram", "--cache-ram", type=int, default=0, help="MiB of prompt cache")
    flags.add_argument("-ngl", "--gpu-layers", type=int, default=0)
    flags.add_argument("-s", "--seed", type=int, default=0)
    flags.add_argument("--metrics", action="store_true")
    flags.add_argument("-lv", "--verbosity", type=int, default=3)
    return flags


def params(wanted: argparse.Namespace, vendor: Any) -> Any:
    """The parameters of xllamacpp for these flags."""
    made = vendor.CommonParams()
    made.model.path = wanted.model
    made.model_alias = {wanted.alias}
    # The attribute became a list in 2026.
    if hasattr(made, "hostnames"):
        made.hostnames = [wanted.host]
    else:
        made.hostname = wanted.host
    made.port = wanted.port
    made.n_ctx = wanted.ctx_size
    made.n_parallel = wanted.parallel
    made.n_batch = wanted.batch_size
    made.n_ubatch = wanted.ubatch_size
    made.cpuparams.n_threads = wanted.threads
    made.cpuparams_batch.n_threads = wanted.threads
    made.cache_type_k = _ggml_type(vendor, wanted.cache_type_k)
    made.cache_type_v = _ggml_type(vendor, wanted.cache_type_v)
    made.flash_attn_type = getattr(
        vendor.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{FLASH_ATTENTION[wanted.flash_attn]}"
    )
    made.kv_unified = wanted.kv_unified
    made.cache_ram_mib = wanted.cache_ram
    made.n_gpu_layers = wanted.gpu_layers
    made.sampling.seed = wanted.seed
    made.endpoint_metrics = wanted.metrics
    made.verbosity = wanted.verbosity
    # True would shrink the context that was asked for until it fits.
    made.fit_params = False
    return made


def _ggml_type(vendor: Any, name: str) -> Any:
    found = getattr(vendor.ggml_type, f"GGML_TYPE_{name.upper()}", None)
    if found is None:
        sys.exit(f"error: invalid argument: {name} is no ggml type")
    return found


def main() -> int:
    """Serve until told to stop."""
    wanted = parser().parse_args()
    if not os.path.isfile(wanted.model):  # noqa: PTH113 - pathlib would be the only use of it
        sys.exit(f"error: no such file or directory: {wanted.model}")
    import xllamacpp  # noqa: PLC0415 - after the flags are known to be right

    stop = threading.Event()
    started = time.monotonic()
    try:
        # Until it has loaded, SIGTERM simply ends the process: the loading thread cannot be asked to stop.
        server = xllamacpp.Server(params(wanted, xllamacpp))
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    loaded = {
        "event": "listening",
        "url": server.listening_address,
        "load_s": round(time.monotonic() - started, 3),
    }
    print(json.dumps(loaded), flush=True)
    stop.wait()
    del server
    print(json.dumps({"event": "stopped"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
