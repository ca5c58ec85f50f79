"""A tiny fake OpenAI-compatible server as a process of its own, with one mode for each way a real one goes
wrong.

``python -I servers.py --model NAME --port N [--mode MODE] [--delay-s S]``; standard library only. With the
kind `command`, `command(mode)` is the template to use.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODES = {
    "ok": "ready after the delay; answers every prompt",
    "slow": "opens its port at once and answers 503 while it loads, as llama.cpp does",
    "never_ready": "opens its port and answers 503 for ever",
    "never_listens": "runs, and never opens its port",
    "wrong_model": "answers to another model id",
    "dies_while_loading": "ends with exit code 1 after the delay, out of memory in its log",
    "dies_silently": "kills itself with SIGKILL after the delay, nothing in its log",
    "dies_after_ready": "ends with exit code 1 after its first completion",
    "http_500": "says that it is healthy and answers 500 to every completion",
    "empty_token": "answers 200 with no text in it",
    "lists_nothing": "answers 500 to /v1/models, as transformers serve does without a hub cache",
    "completions_only": "has no chat route: it answers 400 there",
    "daemonizes": "answers, and leaves a child in a session of its own that ignores SIGTERM",
    "deaf": "answers, and ignores SIGTERM",
    "port_taken": "ends at once: its port is taken by somebody else",
}


def command(mode: str = "ok", delay_s: float = 0.0) -> tuple[str, ...]:
    """A command template for the kind `command`."""
    script = str(Path(__file__).resolve())
    wanted = ("--model", "{name}", "--port", "{port}", "--mode", mode, "--delay-s", str(delay_s))
    return (sys.executable, "-I", script, *wanted)


def reply(prompt: str) -> str:
    """What the fake answers: the sum of the numbers in the prompt, else `Hello`."""
    digits = "".join(c if c.isdigit() else " " for c in prompt).split()
    return str(sum(int(d) for d in digits)) if digits else "Hello"


class Server(ThreadingHTTPServer):
    """The fake, with its mode."""

    daemon_threads = True

    def __init__(self, port: int, model: str, mode: str, delay_s: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.mode = mode
        self.model = "another-model" if mode == "wrong_model" else model
        self.ready_at = time.monotonic() + delay_s

    @property
    def loading(self) -> bool:
        """Whether it says that it is not there yet."""
        return self.mode == "never_ready" or time.monotonic() < self.ready_at


class Handler(BaseHTTPRequestHandler):
    """The three routes that a readiness check and a harness use."""

    server: Server

    def do_GET(self) -> None:
        """`/health` and `/v1/models`."""
        if self.server.loading:
            self.answer(503, {"error": {"message": "Loading model", "code": 503}})
        elif self.path == "/health":
            self.answer(200, {"status": "ok"})
        elif self.path == "/v1/models" and self.server.mode == "lists_nothing":
            self.answer(500, {"error": "no hub cache"})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": self.server.model, "object": "model"}]})
        else:
            self.answer(404, {"error": "no such path"})

    def do_POST(self) -> None:
        """`/v1/chat/completions` and `/v1/completions`."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        mode = self.server.mode
        chat = self.path == "/v1/chat/completions"
        if self.server.loading:
            self.answer(503, {"error": {"message": "Loading model", "code": 503}})
        elif mode == "http_500":
            self.answer(500, {"error": {"message": "compute failed", "code": 500}})
        elif not chat and self.path != "/v1/completions":
            self.answer(404, {"error": "no such path"})
        elif chat and mode == "completions_only":
            self.answer(400, {"error": {"message": "this model has no chat template"}})
        else:
            self.answer(200, self.completion(body, chat=chat))
            if mode == "dies_after_ready":
                print("RuntimeError: the engine died", file=sys.stderr, flush=True)
                os._exit(1)

    def completion(self, body: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        """The document of one completion."""
        prompt = str(body["messages"][-1]["content"] if chat else body["prompt"])
        text = "" if self.server.mode == "empty_token" else reply(prompt)
        part = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        used = {"prompt_tokens": 1, "completion_tokens": 1 if text else 0}
        choices = [{"index": 0, "finish_reason": "stop", **part}]
        return {"id": "fake", "model": self.server.model, "choices": choices, "usage": used}

    def answer(self, status: int, document: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _daemonize_a_child() -> None:
    """Fork twice, so that the grandchild belongs to nobody, and let it refuse to go."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.wait()


def main() -> int:
    """Serve in the mode that was asked for."""
    flags = argparse.ArgumentParser(prog="fake-server", allow_abbrev=False)
    flags.add_argument("--model", required=True)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--mode", choices=sorted(MODES), default="ok")
    flags.add_argument("--delay-s", type=float, default=0.0)
    wanted = flags.parse_args()
    if wanted.mode == "port_taken":
        print(f"OSError: [Errno 98] Address already in use: {wanted.port}", file=sys.stderr)
        return 1
    if wanted.mode.startswith("dies_") and wanted.mode != "dies_after_ready":
        time.sleep(wanted.delay_s)
        if wanted.mode == "dies_silently":
            os.kill(os.getpid(), signal.SIGKILL)
        print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", file=sys.stderr)
        return 1
    if wanted.mode in ("deaf", "daemonizes"):
        _daemonize_a_child() if wanted.mode == "daemonizes" else signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if wanted.mode == "never_listens":
        threading.Event().wait()
    server = Server(wanted.port, wanted.model, wanted.mode, wanted.delay_s)
    print(f"fake server: {wanted.mode} on port {wanted.port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
