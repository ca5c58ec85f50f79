"""What the events of one answer mean: text, reasoning, usage, errors, the end. OpenAI's chat and completions routes.

Known quirks: a first delta with a role and no text; content null; empty deltas; reasoning under two names; several
tokens in a piece; usage in the last piece, in one of its own without choices, in every piece, or nowhere; an error
object inside a 200 stream; no [DONE].
"""

from __future__ import annotations

import json
import re
from array import array
from typing import Any

from assay.core.load import RequestError

DETAIL_CHARS = 300
_TEXTS = ("content", "reasoning_content", "reasoning", "text", "refusal")
_STOP_TOKENS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end_of_text|endoftext|end|eos|return|call)\|>"
    r"|<(?:end_of_turn|start_of_turn|eos)>|</s>|<\uff5cend\u2581of\u2581sentence\uff5c>"
)
"""What ends a turn in the chat formats in use. One that is text was not understood by the engine as an end."""
_CONTEXT = ("context", "maximum model length", "too long", "max_model_len")


class Reply:
    """The answer to one request, as far as it came. Stamps are nanoseconds on the monotonic clock."""

    __slots__ = (
        "cached_tokens", "detail", "done", "error", "finish_reason", "leaked", "output_tokens", "pieces",
        "prompt_tokens", "reasoning_tokens", "stamps", "texts",
    )  # fmt: skip

    def __init__(self, *, keep_text: bool = False) -> None:
        self.stamps = array("q")
        """When each piece of text came."""
        self.texts: list[str] | None = [] if keep_text else None
        self.pieces = 0
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.output_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.finish_reason = ""
        self.leaked = ""
        """A stop token that came as text."""
        self.error: RequestError | None = None
        self.detail = ""
        self.done = False
        """[DONE] was seen."""

    def take(self, event: bytes, stamp_ns: int) -> None:
        """Take the data of one event that arrived at a moment. Never raises: bad data is an error of the reply."""
        if event == b"[DONE]":
            self.done = True
            return
        try:
            value = json.loads(event)
        except (ValueError, RecursionError):
            if event.strip():
                self.fail(
                    RequestError.PROTOCOL, "an event is no JSON: " + event[:80].decode("utf-8", "replace")
                )
            return
        if not isinstance(value, dict):
            self.fail(RequestError.PROTOCOL, f"an event is no object: {str(value)[:80]}")
            return
        choices = value.get("choices")
        if choices and isinstance(choices, list) and isinstance(choices[0], dict):
            self._choice(choices[0], stamp_ns)
        elif value.get("error") is not None:
            self.fail(*stream_error(value["error"]))
        usage = value.get("usage")
        if usage:
            self._usage(usage)
        elif "timings" in value:
            self._timings(value["timings"])

    def fail(self, error: RequestError, detail: str) -> None:
        """Note the first error; later ones are its consequences."""
        if self.error is None:
            self.error, self.detail = error, " ".join(detail.split())[:DETAIL_CHARS]

    @property
    def text(self) -> str:
        """What was answered, where it was kept."""
        return "".join(self.texts or ())

    def _choice(self, choice: dict[str, Any], stamp_ns: int) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            message = choice.get("message")
            delta = message if isinstance(message, dict) else choice
        found = False
        for name in _TEXTS:
            text = delta.get(name)
            if text and isinstance(text, str):
                found = True
                if "<" in text and not self.leaked and (leak := _STOP_TOKENS.search(text)):
                    self.leaked = leak[0]
                if self.texts is not None and name in ("content", "text"):
                    self.texts.append(text)
        if found or delta.get("tool_calls"):
            self.stamps.append(stamp_ns)
            self.pieces += 1
        reason = choice.get("finish_reason")
        if reason:
            self.finish_reason = str(reason)[:40]

    def _usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.output_tokens = _count(usage.get("completion_tokens"), self.output_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = _count(details.get("cached_tokens"), self.cached_tokens)
        details = usage.get("completion_tokens_details")
        if isinstance(details, dict):
            self.reasoning_tokens = _count(details.get("reasoning_tokens"), self.reasoning_tokens)

    def _timings(self, timings: Any) -> None:
        """llama.cpp's own counts, for servers that were not asked for usage."""
        if isinstance(timings, dict) and self.output_tokens is None:
            self.output_tokens = _count(timings.get("predicted_n"), None)
            cached = _count(timings.get("cache_n"), None)
            read = _count(timings.get("prompt_n"), None)
            self.cached_tokens = cached if self.cached_tokens is None else self.cached_tokens
            if read is not None:
                self.prompt_tokens = read + (cached or 0)


def _count(value: Any, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def stream_error(error: Any) -> tuple[RequestError, str]:
    """Class and text of an error object inside a stream."""
    text = error_text(error)
    return (RequestError.CONTEXT if _is_context(text) else RequestError.STREAM), text


def http_error(status: int, body: bytes) -> tuple[RequestError, str]:
    """Class and text of an answer that is not 200."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = body[: 4 * DETAIL_CHARS].decode("utf-8", "replace")
    error = value.get("error") or value.get("detail") or value if isinstance(value, dict) else value
    text = f"HTTP {status}: {error_text(error)}"[:DETAIL_CHARS]
    if status in (429, 503):
        return RequestError.OVERLOAD, text
    if status in (401, 403):
        return RequestError.AUTH, text
    if status in (400, 413, 422) and _is_context(text):
        return RequestError.CONTEXT, text
    return (RequestError.SERVER if status >= 500 else RequestError.REFUSED), text


def error_text(error: Any) -> str:
    """The words of an error object, whatever its shape."""
    if isinstance(error, dict):
        kind = str(error.get("type") or "")
        message = str(error.get("message") or json.dumps(error, default=str))
        error = f"{kind}: {message}" if kind and kind not in message else message
    return " ".join(str(error).split())[:DETAIL_CHARS]


def _is_context(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in _CONTEXT)
