"""A simulated inference engine whose truth is known: a real HTTP server that behaves, or misbehaves, as it is told.

``python -m assay.testing.engine --port N [options]``. Two ways to answer: by the model of `testing.truth` (slots, one
batch, prefill, memory, noise, drift), or on a fixed schedule (`--ttft-ms`, `--itl-ms`), for measuring load clients.
It stands in for a GPU, and for every quirk of streams that was met in the wild.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from assay.load.loop import MeasuringLoop
from assay.testing.truth import Truth

QUIRKS: Mapping[str, str] = {
    "no_role": "no first delta with a role alone",
    "null_content": "the role's delta has content null",
    "empty_deltas": "deltas with empty text before and between tokens",
    "reasoning": "the first half of the answer is reasoning_content",
    "reasoning_alt": "the first half of the answer is in the field `reasoning`",
    "no_usage": "no usage anywhere",
    "usage_in_last": "usage in the piece with the finish reason",
    "continuous_usage": "usage in every piece",
    "timings": "llama.cpp's `timings` instead of usage",
    "keepalive": "comment lines between events",
    "crlf": "lines end with CR LF",
    "cr": "lines end with CR",
    "no_space": "`data:` without a blank behind it",
    "no_done": "no [DONE]",
    "multi_token": "two tokens in each piece",
    "multi_line": "JSON spread over several data lines",
    "split_utf8": "characters of several bytes, cut in the middle on the wire",
    "stream_error": "an error object after three tokens, under status 200",
    "reset": "the connection breaks after three tokens",
    "close": "the connection is closed after a stream, unannounced",
    "until_close": "no chunked coding: the body ends with the connection",
    "no_stream": "`stream` is ignored: one JSON document",
    "stop_token": "the last token is `</s>`, as text",
    "strict": "422 for fields that OpenAI does not know",
    "html": "an HTML page under status 200",
    "http_500": "500 to every completion",
    "empty": "a stream without any text",
}
"""Every way in which the stream can differ from the plain one."""

MODES: Mapping[str, str] = {
    "ok": "serves",
    "wrong_model": "answers to another model id",
    "never_ready": "answers 503 for ever",
    "dead_after_ready": "says that it is healthy and fails every completion",
    "hangs": "takes completions and never answers",
}

_WORDS = (" time", " people", " way", " water", " word", " side", " light", " story")
_WIDE = (" é", " 日本", " 😀", " ß")
_KNOWN_FIELDS = frozenset(
    {"model", "messages", "prompt", "max_tokens", "max_completion_tokens", "stream", "stream_options", "temperature",
     "seed", "top_p", "n", "stop", "generation_config"}
)  # fmt: skip
_OOM_LINES = {
    "llama_cpp": (
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size {needed}\n"
        "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache"
    ),
    "vllm": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {needed} bytes.",
}


@dataclass
class Job:
    """One completion under way."""

    number: int
    received_ns: int
    prompt_tokens: int
    cached_tokens: int
    wanted: int
    emit: Callable[[int], None]
    """Send the tokens up to this count."""
    finish: Callable[[str], None]
    gone: Callable[[], bool]
    produced: int = 0
    first_ns: int = 0
    last_ns: int = 0


@dataclass
class Settings:
    """What the command line says."""

    model: str = "simulated"
    mode: str = "ok"
    flavour: str = "llama_cpp"
    quirks: frozenset[str] = frozenset()
    ttft_ms: float | None = None
    itl_ms: float = 0.0
    ready_after_s: float = 0.0
    cold_ms: float = 0.0
    dies_after: int | None = None
    oom_after: int | None = None
    max_queue: int | None = None
    prefix_cache: bool = False
    within_requests: int = 16
    launch: int = 0
    tokens_per_word: float = 1.0
    template_tokens: int = 9


@dataclass
class Engine:
    """Decodes jobs, by the truth or by the schedule."""

    truth: Truth
    settings: Settings
    log: TextIO | None = None
    waiting: deque[Job] = field(default_factory=deque)
    active: list[Job] = field(default_factory=list)
    accepted: int = 0
    finished: int = 0
    prompts: deque[list[str]] = field(default_factory=lambda: deque(maxlen=256))
    ready_at: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def cached(self, words: list[str]) -> int:
        """Words at the beginning of a prompt that an earlier prompt began with too."""
        if not self.settings.prefix_cache:
            return 0
        best = 0
        for known in self.prompts:
            same = 0
            for a, b in zip(known, words, strict=False):
                if a != b:
                    break
                same += 1
            best = max(best, same)
        self.prompts.append(words)
        return best

    def submit(self, job: Job) -> None:
        """Take a job."""
        self.accepted += 1
        if self.settings.ttft_ms is not None:
            self._on_schedule(job)
            return
        self.waiting.append(job)
        self._wake.set()

    async def run(self) -> None:
        """Decode for ever, on a timeline of its own: lateness of the machine does not add up."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            if not self.active and not self.waiting:
                self._wake.clear()
                await self._wake.wait()
                at = loop.time()
            factor = self.truth.factor(self.settings.launch, self.accepted // self.settings.within_requests)
            while self.waiting and len(self.active) < self.truth.slots:
                job = self.waiting.popleft()
                cold = self.settings.cold_ms / 1e3 if self.finished == 0 and not self.active else 0.0
                at += cold + self.truth.prefill_s(job.prompt_tokens - job.cached_tokens) / factor
                self.active.append(job)
            held = sum(j.prompt_tokens + j.produced for j in self.active)
            at += self.truth.step_s(len(self.active), held) / factor
            await asyncio.sleep(max(0.0, at - loop.time()))
            for job in list(self.active):
                self._token(job)

    def _token(self, job: Job) -> None:
        if job.gone():
            self.active.remove(job)
            return
        room = self.truth.context_tokens - job.prompt_tokens
        self._produce(job, job.produced + 1)
        if job.produced >= min(job.wanted, room):
            self.active.remove(job)
            self._end(job)

    def _on_schedule(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        assert self.settings.ttft_ms is not None
        start = job.received_ns / 1e9 + self.settings.ttft_ms / 1e3
        gap = self.settings.itl_ms / 1e3
        if self.settings.ttft_ms == 0 and gap == 0:
            self._produce(job, job.wanted)
            self._end(job)
            return

        def token() -> None:
            if job.gone():
                return
            self._produce(job, job.produced + 1 if gap else job.wanted)
            if job.produced >= job.wanted:
                self._end(job)
            else:
                loop.call_at(start + job.produced * gap, token)

        loop.call_at(start, token)

    def _produce(self, job: Job, count: int) -> None:
        job.produced = count
        job.last_ns = time.perf_counter_ns()
        job.first_ns = job.first_ns or job.last_ns
        job.emit(count)

    def _end(self, job: Job) -> None:
        job.finish("length")
        self.finished += 1
        if self.log is not None:
            row = {"number": job.number, "received_ns": job.received_ns, "first_ns": job.first_ns,
                   "last_ns": job.last_ns, "prompt_tokens": job.prompt_tokens, "tokens": job.produced}  # fmt: skip
            self.log.write(json.dumps(row) + "\n")
        if self.settings.dies_after is not None and self.finished >= self.settings.dies_after:
            _say("RuntimeError: the engine died")
            os._exit(1)
        if self.settings.oom_after is not None and self.finished >= self.settings.oom_after:
            _say(_OOM_LINES[self.settings.flavour].format(needed=int(self.truth.needed_bytes)))
            os._exit(1)


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.transport: asyncio.Transport
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of requests."""
        self._rest += data
        while True:
            end = self._rest.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._rest[:end]
            low = head.lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._rest) < end + 4 + length:
                return
            body, self._rest = self._rest[end + 4 : end + 4 + length], self._rest[end + 4 + length :]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            if b"\r\nexpect: 100-continue" in low:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request(method, path.partition("?")[0], body)

    def request(self, method: str, path: str, body: bytes) -> None:
        """Answer one request."""
        settings = self.engine.settings
        if settings.mode == "never_ready" or asyncio.get_running_loop().time() < self.engine.ready_at:
            self.answer(
                503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
            )
        elif method == "GET" and path == "/health":
            self.answer(200, {"status": "ok"})
        elif method == "GET" and path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": self.model, "object": "model"}]})
        elif method == "POST" and path in ("/v1/chat/completions", "/v1/completions"):
            self.complete(body, chat="chat" in path)
        else:
            self.answer(404, {"error": {"message": f"no such path {path}"}})

    @property
    def model(self) -> str:
        """The id that it answers to."""
        settings = self.engine.settings
        return "another-model" if settings.mode == "wrong_model" else settings.model

    def complete(self, data: bytes, *, chat: bool) -> None:
        """Begin a completion, or refuse it."""
        received = time.perf_counter_ns()
        settings, engine = self.engine.settings, self.engine
        try:
            asked = json.loads(data)
            text = _prompt(asked, chat=chat)
            wanted = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.answer(400, {"error": {"message": f"bad request: {error}", "code": 400}})
            return
        words = text.split()
        prompt = round(len(words) * settings.tokens_per_word) + (settings.template_tokens if chat else 0)
        if self._refused(asked, prompt):
            return
        if settings.mode == "hangs":
            return
        cached = round(engine.cached(words) * settings.tokens_per_word)
        streams = bool(asked.get("stream")) and "no_stream" not in settings.quirks
        answer = Answer(self.transport, settings.quirks, self.model, chat=chat, streams=streams)
        answer.usage = (prompt, cached)
        answer.wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        answer.begin()
        job = Job(
            number=engine.accepted,
            received_ns=received,
            prompt_tokens=prompt,
            cached_tokens=min(prompt - 1, cached),
            wanted=max(1, wanted),
            emit=answer.emit,
            finish=answer.finish,
            gone=self.transport.is_closing,
        )
        answer.total = min(job.wanted, max(1, engine.truth.context_tokens - prompt))
        engine.submit(job)

    def _refused(self, asked: Mapping[str, Any], prompt: int) -> bool:
        settings, engine = self.engine.settings, self.engine
        unknown = sorted(set(asked) - _KNOWN_FIELDS)
        if settings.mode == "dead_after_ready" or "http_500" in settings.quirks:
            self.answer(500, {"error": {"message": "compute failed", "code": 500}})
        elif "html" in settings.quirks:
            self._raw(200, b"<html>hello</html>", "text/html")
        elif unknown and "strict" in settings.quirks:
            self.answer(422, {"detail": f"Unexpected fields in the request: {set(unknown)}"})
        elif settings.ttft_ms is None and prompt > engine.truth.context_tokens:
            text = f"the request exceeds the available context size: {prompt} > {engine.truth.context_tokens}"
            kind = "exceed_context_size_error"
            self.answer(400, {"error": {"code": 400, "message": text, "type": kind, "n_prompt_tokens": prompt,
                                        "n_ctx": engine.truth.context_tokens}})  # fmt: skip
        elif settings.max_queue is not None and len(engine.waiting) >= settings.max_queue:
            self.answer(429, {"error": {"message": "the queue is full", "code": 429}})
        else:
            return False
        return True

    def answer(self, status: int, document: Mapping[str, Any]) -> None:
        """Send JSON."""
        self._raw(status, json.dumps(document).encode(), "application/json")

    def _raw(self, status: int, data: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.transport.write(head.encode() + data)


class Answer:
    """Writes one completion, with the quirks that were asked for."""

    def __init__(
        self, transport: asyncio.Transport, quirks: frozenset[str], model: str, *, chat: bool, streams: bool
    ) -> None:
        self.transport = transport
        self.quirks = quirks
        self.chat = chat
        self.streams = streams
        self.usage = (0, 0)
        self.wants_usage = False
        self.total = 0
        """Tokens that the answer will have."""
        self._sent = 0
        self._held = b""
        self._words = _WIDE if "split_utf8" in quirks else _WORDS
        kind = "chat.completion.chunk" if chat else "text_completion"
        self._common = {"id": "sim", "object": kind, "created": 1, "model": model}
        self._plain = not (quirks - {"no_role", "no_done", "usage_in_last", "close"})
        self._eol = b"\r\n" if "crlf" in quirks else b"\r" if "cr" in quirks else b"\n"
        self._cache: dict[int, bytes] = {}

    def begin(self) -> None:
        """Send the head, and the delta with the role."""
        if not self.streams:
            return
        framing = "" if "until_close" in self.quirks else "Transfer-Encoding: chunked\r\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n".encode()
        first = b""
        if self.chat and "no_role" not in self.quirks:
            content = None if "null_content" in self.quirks else ""
            first = self._event(self._choices({"role": "assistant", "content": content}))
        self.transport.write(head + first)

    def emit(self, count: int) -> None:
        """Send the tokens up to a count."""
        if not self.streams or "empty" in self.quirks:
            return
        if "multi_token" in self.quirks and count % 2 and count < self.total:
            return
        if self._plain:
            self.transport.write(b"".join(self._token(n) for n in range(self._sent, count)))
        else:
            self._quirky(count)
        self._sent = count

    def finish(self, reason: str) -> None:
        """Send what ends the answer."""
        if not self.streams:
            self._document(reason)
            return
        last = self._choices({} if self.chat else "", reason)
        usage = self._usage()
        parts = []
        if usage is not None and "usage_in_last" in self.quirks:
            last["usage"] = usage
        elif "timings" in self.quirks:
            prompt, cached = self.usage
            last["timings"] = {"prompt_n": prompt - cached, "cache_n": cached, "predicted_n": self._sent}
        parts.append(self._event(last))
        if usage is not None and "usage_in_last" not in self.quirks:
            parts.append(self._event({**self._common, "choices": [], "usage": usage}))
        if "no_done" not in self.quirks:
            parts.append(self._framed(b"data: [DONE]" + self._eol * 2))
        if "until_close" not in self.quirks:
            parts.append(b"0\r\n\r\n")
        self._write(b"".join(parts))
        if self.quirks & {"close", "until_close"}:
            self.transport.close()

    def _write(self, data: bytes) -> None:
        """Write behind what was held back."""
        held, self._held = self._held, b""
        if held or data:
            self.transport.write(held + data)

    def _document(self, reason: str) -> None:
        text = "".join(self._words[n % len(self._words)] for n in range(self.total))
        part = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        self._sent = self.total
        prompt, _ = self.usage
        used = {"prompt_tokens": prompt, "completion_tokens": self.total, "total_tokens": prompt + self.total}
        body = json.dumps(
            {**self._common, "object": "chat.completion", "usage": used,
             "choices": [{"index": 0, "finish_reason": reason, **part}]}
        ).encode()  # fmt: skip
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def _usage(self) -> dict[str, Any] | None:
        if not self.wants_usage or self.quirks & {"no_usage", "timings"}:
            return None
        prompt, cached = self.usage
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._sent,
            "total_tokens": prompt + self._sent,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _token(self, n: int) -> bytes:
        """One plain token; the bytes are the same each time the word comes round."""
        n %= len(self._words)
        if n not in self._cache:
            self._cache[n] = self._event(self._choices(self._delta(self._words[n], "content")))
        return self._cache[n]

    def _delta(self, text: str, name: str) -> Any:
        return {name: text} if self.chat else text

    def _choices(self, delta: Any, reason: str | None = None) -> dict[str, Any]:
        part = {"delta": delta} if self.chat else {"text": delta}
        return {**self._common, "choices": [{"index": 0, **part, "finish_reason": reason}]}

    def _quirky(self, count: int) -> None:
        parts: list[bytes] = []
        quirks = self.quirks
        if "keepalive" in quirks:
            parts.append(self._framed(b": keepalive 1/2" + self._eol * 2))
        if "empty_deltas" in quirks:
            parts.append(self._event(self._choices(self._delta("", "content"))))
        text = "".join(self._words[n % len(self._words)] for n in range(self._sent, count))
        if "stop_token" in quirks and count == self.total:
            text = "</s>"
        name = "content"
        if quirks & {"reasoning", "reasoning_alt"} and count <= (self.total + 1) // 2:
            name = "reasoning" if "reasoning_alt" in quirks else "reasoning_content"
        piece = self._choices(self._delta(text, name))
        if "continuous_usage" in quirks:
            piece["usage"] = {"prompt_tokens": self.usage[0], "completion_tokens": count}
        parts.append(self._event(piece))
        if count >= 3 and "stream_error" in quirks and self._sent < 3:
            error = {"error": {"message": "No requests can be scheduled", "code": 500}}
            parts.append(self._event(error))
        data = b"".join(parts)
        if "split_utf8" in quirks:
            middle = data.index(text.strip().encode()) + 1
            self._write(data[:middle])
            self._held = data[middle:]
            asyncio.get_running_loop().call_later(0.0005, self._write, b"")
        else:
            self._write(data)
        if count >= 3 and "reset" in quirks:
            self.transport.abort()

    def _event(self, value: Mapping[str, Any]) -> bytes:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if "multi_line" in self.quirks:
            text = json.dumps(value, indent=1, ensure_ascii=False)
        prefix = b"data:" if "no_space" in self.quirks else b"data: "
        lines = b"".join(prefix + line.encode() + self._eol for line in text.split("\n"))
        return self._framed(lines + self._eol)

    def _framed(self, data: bytes) -> bytes:
        return data if "until_close" in self.quirks else b"%x\r\n%b\r\n" % (len(data), data)


def _prompt(asked: Mapping[str, Any], *, chat: bool) -> str:
    if not chat:
        return str(asked["prompt"])
    return " ".join(str(m["content"]) for m in asked["messages"])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="assay.testing.engine", allow_abbrev=False, description=__doc__)
    flags.add_argument("--port", type=int, required=True, help="0 = a free one; it is printed")
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument(
        "--state", type=Path, help="file that counts launches, for noise between them and drift"
    )
    flags.add_argument("--log", type=Path, help="JSON lines: when each answer was really sent")
    flags.add_argument("--quirks", default="", help="comma-separated: " + ", ".join(QUIRKS))
    for made in (*dataclasses.fields(Truth), *dataclasses.fields(Settings)):
        if made.name == "quirks":
            continue
        name = "--" + made.name.replace("_", "-")
        if made.name in ("mode", "flavour"):
            choices = sorted(MODES) if made.name == "mode" else sorted(_OOM_LINES)
            flags.add_argument(name, choices=choices, default=made.default)
        elif made.type == "bool":
            flags.add_argument(name, action="store_true")
        else:
            kind = {"int": int, "int | None": int, "str": str}.get(str(made.type), float)
            flags.add_argument(name, type=kind, default=made.default)
    return flags


def _parsed(argv: list[str] | None) -> tuple[argparse.Namespace, Truth, Settings]:
    flags = _flags()
    wanted = flags.parse_args(argv)
    given = vars(wanted)
    quirks = frozenset(q for q in wanted.quirks.split(",") if q)
    if unknown := quirks - set(QUIRKS):
        flags.error(f"unknown quirks: {', '.join(sorted(unknown))}")
    truth = Truth(**{f.name: given[f.name] for f in dataclasses.fields(Truth)})
    settings = Settings(
        **{f.name: given[f.name] for f in dataclasses.fields(Settings) if f.name != "quirks"}, quirks=quirks
    )
    if wanted.state is not None:
        settings.launch = _launches(wanted.state)
    return wanted, truth, settings


def _launches(file: Path) -> int:
    """How often this engine was launched before; counts this launch."""
    try:
        before = int(json.loads(file.read_text())["launches"])
    except (OSError, ValueError, KeyError, TypeError):
        before = 0
    file.write_text(json.dumps({"launches": before + 1}))
    return before


async def _serve(wanted: argparse.Namespace, truth: Truth, settings: Settings, log: TextIO | None) -> None:
    loop = asyncio.get_running_loop()
    engine = Engine(truth, settings, log)
    engine.ready_at = loop.time() + settings.ready_after_s
    server = await loop.create_server(lambda: Server(engine), wanted.host, wanted.port, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"simulated engine: http://{wanted.host}:{port}/v1 model {settings.model}", flush=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    task = loop.create_task(engine.run())
    await over.wait()
    task.cancel()
    server.close()


def command(**options: Any) -> tuple[str, ...]:
    """A command line of the engine, as the serve kind `command` takes it; `{name}` and `{port}` are filled in there."""
    return (
        sys.executable,
        "-m",
        "assay.testing.engine",
        *_arguments({"model": "{name}", "port": "{port}", **options}),
    )


def _arguments(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            yield flag
        elif value is not None and value is not False:
            yield from (
                flag,
                ",".join(value) if isinstance(value, tuple | list | set | frozenset) else str(value),
            )


def main(argv: list[str] | None = None) -> int:
    """Serve as told."""
    wanted, truth, settings = _parsed(argv)
    if not truth.fits:
        time.sleep(min(settings.ready_after_s, 0.2))
        _say(_OOM_LINES[settings.flavour].format(needed=int(truth.needed_bytes)))
        return 1
    log = wanted.log.open("w", buffering=1 << 16) if wanted.log else None
    loop = MeasuringLoop()
    try:
        loop.run_until_complete(_serve(wanted, truth, settings, log))
    finally:
        if log is not None:
            log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
