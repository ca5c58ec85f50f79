"""When a server is ready: it is the right one, it serves the right model, and a token came back.

An open port means nothing (llama.cpp answers 503 there while it loads, SGLang's is open while its warm-up
fails), and `/health` means little (one build answered 200 there and 500 to every request). So all of these
must hold: the listener is ours, the model id matches, and a completion held text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from assay.core.errors import ComponentFailed
from assay.core.run import Run
from assay.core.tuning import Cause
from assay.core.vocabulary import FailureClass

PROMPT = "Hello"
POLL_S = 0.1
HEALTH_TIMEOUT_S = 5.0
FIRST_TOKEN_S = 10.0
"""Wait for the first token at the first try; doubled at each further one, as a first request may compile."""
TOKEN_TIMEOUT_S = 120.0
"""Longest wait for one token."""
REFUSALS = 5
"""Failed completions after which a server that says it is healthy is not believed."""
BODY_CHARS = 300

_CHAT = "/v1/chat/completions"
_ATTEMPTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (_CHAT, {"max_tokens": 1}),
    # One token may be half a character or a thinking mark: give it room before calling it mute.
    (_CHAT, {"max_tokens": 16}),
    (_CHAT, {"max_completion_tokens": 64}),
    ("/v1/completions", {"max_tokens": 16}),
)


@dataclass(frozen=True)
class Probe:
    """Where to ask, and what the answer must be."""

    root: str
    """Scheme, host and port, without `/v1`."""
    model: str
    """The id that requests name."""
    accepted: frozenset[str] = frozenset()
    """Further ids that mean this model in an answer."""
    health: str = "/health"
    """Path whose status is looked at; empty = the server has none."""
    lists_models: bool = True
    """Off for transformers serve: without a hub cache it answers 500 and logs a traceback."""
    headers: Mapping[str, str] = field(default_factory=dict)
    environment_proxies: bool = False
    """Off for servers of ours: a proxy must not come between."""
    lenient_prefix: bool = False
    """A listed model may answer with a dated version of its id."""

    def means(self, answered: str, *, listed: bool = False) -> bool:
        """Whether an id in an answer means our model."""
        dated = self.lenient_prefix and listed and answered.startswith(self.model)
        return answered == self.model or answered in self.accepted or dated


@dataclass(frozen=True)
class Answer:
    """What one HTTP request gave; `status` 0 = no connection."""

    status: int
    text: str = ""
    body: Any = None


@dataclass(frozen=True)
class Ready:
    """How a server proved itself."""

    answered_model: str
    text: str
    """The token that came back."""


class NotReady(ComponentFailed):
    """It runs, but it is not ready: too slow, or mute."""


class PortLost(ComponentFailed):
    """Somebody else took the port between our choice and the server's start."""


class Mute(Exception):
    """No token this time; the reason is the argument."""


def client(probe: Probe) -> httpx.Client:
    """An HTTP client without kept-alive connections: llama.cpp closes them after a stream."""
    return httpx.Client(
        base_url=probe.root,
        headers={"Connection": "close", **probe.headers},
        trust_env=probe.environment_proxies,
        timeout=HEALTH_TIMEOUT_S,
    )


def ask(
    http: httpx.Client, method: str, path: str, body: Any = None, timeout_s: float = HEALTH_TIMEOUT_S
) -> Answer:
    """One request; a failed connection is an answer too."""
    try:
        response = http.request(method, path, json=body, timeout=max(0.1, timeout_s))
    except httpx.HTTPError as error:
        return Answer(0, f"{type(error).__name__}: {error}")
    try:
        return Answer(response.status_code, response.text[:BODY_CHARS], response.json())
    except ValueError:
        return Answer(response.status_code, response.text[:BODY_CHARS])


def wait_until_ready(
    probe: Probe,
    timeout_s: float,
    state: Callable[[], Run],
    owned: Callable[[], bool],
    explain: Callable[[Run], ComponentFailed | None],
) -> Ready:
    """Wait until a server that we started is ready.

    Args:
        probe: where to ask and for which model.
        timeout_s: how long it may take.
        state: how the server's run stands; its end stops the waiting at once.
        owned: whether the listener on the port belongs to that run.
        explain: the error for a run that ended, or that never will be ready although it runs; else None.

    Raises:
        ComponentFailed: DEPLOYMENT_HEALTH_FAILED for a wrong model; what `explain` says.
        NotReady: DEPLOYMENT_HEALTH_FAILED for a mute server, or none in time.
        PortLost: if another process listens on the port.
    """
    deadline = time.monotonic() + timeout_s
    refused, last = 0, "no connection"
    with client(probe) as http:
        while True:
            run = state()
            if (run.exit_code is not None or refused) and (error := explain(run)) is not None:
                raise error
            left = deadline - time.monotonic()
            if left <= 0 or refused >= REFUSALS:
                raise _not_ready(probe, timeout_s, last, refused, run)
            healthy, last = _healthy(http, probe, last)
            if healthy:
                _require_owned(state, owned, probe, explain)
                try:
                    return prove(http, probe, min(left, TOKEN_TIMEOUT_S, FIRST_TOKEN_S * 2**refused))
                except Mute as reason:
                    last, refused = str(reason), refused + 1
                    time.sleep(min(0.5, max(0.0, left)))
            time.sleep(min(POLL_S, max(0.0, left)))


def prove(http: httpx.Client, probe: Probe, timeout_s: float = TOKEN_TIMEOUT_S) -> Ready:
    """Check the model id and get one token, once.

    Raises:
        ComponentFailed: DEPLOYMENT_HEALTH_FAILED if it serves another model, USER_CONFIG_ERROR if it refuses
            the key.
        Mute: if it gave no token; it may yet.
    """
    listed = _listed(http, probe)
    reason = "no answer"
    for path, limits in _ATTEMPTS:
        prompt = {"messages": [{"role": "user", "content": PROMPT}]} if path == _CHAT else {"prompt": PROMPT}
        answer = ask(http, "POST", path, {"model": probe.model, **prompt, **limits}, timeout_s)
        reason = f"{path} answered {answer.status or 'nothing'}: {answer.text}".strip()
        if answer.status in (401, 403):
            raise _failed(probe, f"it refuses the API key ({answer.status})", FailureClass.USER_CONFIG_ERROR)
        if answer.status == 0 or answer.status >= 500 or answer.status == 429:
            raise Mute(reason)
        if answer.status != 200:
            continue
        answered = answer.body.get("model") if isinstance(answer.body, dict) else None
        _require_model(probe, answered, listed)
        if text := _text(answer.body):
            return Ready(answered or probe.model, text)
        reason = f"{path} answered 200 without any text"
    raise Mute(reason)


def _healthy(http: httpx.Client, probe: Probe, last: str) -> tuple[bool, str]:
    answer = ask(http, "GET", probe.health or "/v1/models")
    # No such path: the server has no health check of its own, and the token decides.
    if answer.status in (200, 204, 404, 405) or (not probe.health and answer.status):
        return True, last
    return False, f"{probe.health} answered {answer.status}: {answer.text}" if answer.status else last


def _listed(http: httpx.Client, probe: Probe) -> bool:
    """True if the server lists our model, False if it cannot list."""
    if not probe.lists_models:
        return False
    answer = ask(http, "GET", "/v1/models")
    if answer.status in (401, 403):
        raise _failed(probe, f"it refuses the API key ({answer.status})", FailureClass.USER_CONFIG_ERROR)
    rows = answer.body.get("data") if isinstance(answer.body, dict) else None
    if answer.status != 200 or not isinstance(rows, list):
        return False
    ids = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if not ids:
        return False
    if not any(probe.means(item) for item in ids):
        raise _other_model(probe, ", ".join(ids[:5]))
    return True


def _require_model(probe: Probe, answered: Any, listed: bool) -> None:
    if answered is None and listed:
        return
    if not isinstance(answered, str):
        raise _failed(probe, f"nothing in its answers names the model; expected {probe.model!r}")
    if not probe.means(answered, listed=listed):
        raise _other_model(probe, answered)


def _text(body: Any) -> str:
    """The text of a completion; empty for any shape that holds none."""
    try:
        choice = body["choices"][0]
        message = choice.get("message") or {}
        found = (
            choice.get("text"),
            message.get("content"),
            message.get("reasoning_content"),
            message.get("reasoning"),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""
    return next((item for item in found if isinstance(item, str) and item), "")


def _require_owned(
    state: Callable[[], Run],
    owned: Callable[[], bool],
    probe: Probe,
    explain: Callable[[Run], ComponentFailed | None],
) -> None:
    if owned():
        return
    run = state()
    # A server that died while it answered owns nothing any more: its own end is the cause.
    if run.exit_code is not None and (error := explain(run)) is not None:
        raise error
    raise PortLost(
        "another process listens on this port, not the server that was started",
        failure_class=FailureClass.INFRA_TRANSIENT,
        where=probe.root,
        next="leave port at 0, or end the other process",
        log_tail=run.log_tail,
    )


def _not_ready(probe: Probe, timeout_s: float, last: str, refused: int, run: Run) -> NotReady:
    mute = refused >= REFUSALS
    return NotReady(
        f"it runs, but gives no token: {last}"
        if mute
        else f"not ready after {timeout_s:.0f} s (last: {last})",
        failure_class=FailureClass.DEPLOYMENT_HEALTH_FAILED,
        where=probe.root,
        next="serve the checkpoint alone with the recorded command" if mute else "raise ready_timeout_s",
        log_tail=run.log_tail,
        cause=Cause.HANG,
    )


def _other_model(probe: Probe, answered: str) -> ComponentFailed:
    return _failed(
        probe, f"it serves {answered!r}, not {probe.model!r}", next="name the model id that it serves"
    )


def _failed(
    probe: Probe,
    what: str,
    failure_class: FailureClass = FailureClass.DEPLOYMENT_HEALTH_FAILED,
    *,
    next: str = "",
    log_tail: str = "",
) -> ComponentFailed:
    return ComponentFailed(what, failure_class=failure_class, where=probe.root, next=next, log_tail=log_tail)
