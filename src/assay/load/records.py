"""From what a point left behind to one record a request."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from assay.core.load import RequestError, RequestRecord, TokenSource
from assay.load.run import Outcome, PointRun

Counter = Callable[[str], int]


def records(run: PointRun, first_index: int = 0, counter: Counter | None = None) -> tuple[RequestRecord, ...]:
    """One record for each request that was begun, in the order of their sending.

    Args:
        run: the finished point.
        first_index: number of its first conversation among all points.
        counter: counts tokens where the server does not.
    """
    return tuple(_record(i, o, run.t0_ns, first_index, counter) for i, o in enumerate(run.outcomes))


def _record(
    index: int, outcome: Outcome, t0_ns: int, first_index: int, counter: Counter | None
) -> RequestRecord:
    def seconds(stamp: int | None) -> float | None:
        return None if stamp is None else (stamp - t0_ns) / 1e9

    common = {
        "index": index,
        "session": first_index + outcome.session,
        "turn": outcome.turn,
        "warmup": outcome.warmup,
        "intended_s": (outcome.intended_ns - t0_ns) / 1e9,
        "prompt_target": outcome.ask.prompt_target,
        "output_target": outcome.ask.output_target,
        "reconnected": outcome.reconnected,
    }
    exchange = outcome.exchange
    if outcome.error is not None or exchange is None:
        return RequestRecord(
            **common,
            error=outcome.error or RequestError.CANCELLED,
            detail=outcome.detail,
            end_s=seconds(outcome.failed_ns or None),
        )
    reply = exchange.reply
    stamps = reply.stamps
    tokens, source = _tokens(outcome, counter)
    return RequestRecord(
        **common,
        sent_s=seconds(exchange.sent_ns),
        first_s=seconds(stamps[0]) if stamps else None,
        last_s=seconds(stamps[-1]) if stamps else None,
        end_s=seconds(exchange.end_ns),
        error=reply.error,
        status=exchange.response.status or None,
        detail=reply.detail,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        output_tokens=tokens,
        reasoning_tokens=reply.reasoning_tokens,
        token_source=source,
        chunks=reply.pieces,
        finish_reason=reply.finish_reason,
        gaps_ms=tuple((b - a) / 1e6 for a, b in pairwise(stamps)),
    )


def _tokens(outcome: Outcome, counter: Counter | None) -> tuple[int | None, TokenSource | None]:
    assert outcome.exchange is not None
    reply = outcome.exchange.reply
    if reply.output_tokens is not None and (reply.output_tokens or not reply.pieces):
        return reply.output_tokens, TokenSource.USAGE
    if counter is not None and reply.text:
        return counter(reply.text), TokenSource.TOKENIZER
    return (reply.pieces, TokenSource.CHUNKS) if reply.pieces else (None, None)
