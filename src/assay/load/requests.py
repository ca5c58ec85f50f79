"""Requests: prompts that are new each time, of a wanted length, as the bytes that go on the wire."""

# ruff: noqa: S311 - words are drawn, no secrets

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay.core.load import Workload

_TEXT = """
time people year way day thing man world life hand part child eye place work week case point company number
group problem fact book story question school state family student country night water room mother area
money month lot right study word business issue side kind head house service friend father power hour game
line end member law car city community name president team minute idea body information back parent face
others level office door health person art war history party result change morning reason research girl guy
moment air teacher force education food land music language science nature market report paper tree road
bird fish river sea stone fire wind rain snow sun moon star light color green blue red black white small
large long short high low old new young early late first last next good great strong weak full empty open
close start stop move turn look find give take make keep hold bring carry read write speak hear see feel
think know learn teach build break run walk stand sit sleep eat drink play sing dance buy sell pay save
spend win lose send meet help need want love hope fear call ask answer tell show try use wait stay leave
enter pass cross follow lead grow fall rise cut drive ride fly swim throw catch push pull press touch hit
table chair window wall floor bed cup plate glass box bag ball ring key lock clock phone letter page map
picture film song voice sound noise smell taste shape size weight speed heat cold winter summer spring
"""
WORDS = tuple(_TEXT.split())
"""Plain words that most tokenizers keep whole behind a blank."""
CHARACTERS = sum(len(word) + 1 for word in WORDS) / len(WORDS)
"""Of a word with its blank, on average."""
MOST_PER_WORD = 2.0
"""Tokens of a word beyond which a tokenizer takes words apart: then a prompt's length follows from its characters."""


class Ask(NamedTuple):
    """One request to be sent."""

    data: bytes
    """Head and body, ready for the wire."""
    prompt_target: int
    output_target: int
    messages: tuple[Mapping[str, str], ...]
    """What was said so far, for the next turn."""


@dataclass(frozen=True)
class Calibration:
    """How words become tokens on this server: tokens = fixed + per_word * words."""

    per_word: float = 1.0
    fixed: float = 0.0
    source: str = "none"
    """`usage` (two requests), `tokenizer`, or `none`: one word is taken for one token."""

    per_character: float = 0.0
    """Above 0: tokens = fixed + per_character * characters, blanks included."""

    @classmethod
    def between(cls, few: Sized, many: Sized) -> Calibration:
        """From two prompts and the tokens that the server counted in them."""
        tokens = many.tokens - few.tokens
        per_word = tokens / (many.words - few.words)
        if per_word <= MOST_PER_WORD:
            return cls(per_word, few.tokens - few.words * per_word, "usage")
        per_character = tokens / (many.characters - few.characters)
        fixed = few.tokens - few.characters * per_character
        return cls(per_character * CHARACTERS, fixed, "usage", per_character)

    def words(self, tokens: int) -> int:
        """Words that make a prompt of so many tokens; at least one."""
        return max(1, round((tokens - self.fixed) / self.per_word))

    def drawn(self, rng: random.Random, tokens: int) -> list[str]:
        """Words that make a prompt of so many tokens, as exactly as this is known; at least one."""
        words = rng.choices(WORDS, k=self.words(tokens))
        if not self.per_character:
            return words
        left = int((tokens - self.fixed) / self.per_character) - _characters(words)
        while left < 0 and len(words) > 1:
            left += len(words.pop()) + 1
        while rest := [word for word in WORDS if len(word) < left]:
            words.append(rng.choice(rest))
            left -= len(words[-1]) + 1
        return words


class Sized(NamedTuple):
    """A prompt by what it holds."""

    words: int
    characters: int
    tokens: int


def sized(ask: Ask, tokens: int) -> Sized:
    """The size of a request's last message."""
    words = ask.messages[-1]["content"].split()
    return Sized(len(words), _characters(words), tokens)


def _characters(words: Sequence[str]) -> int:
    """Each has a blank before it."""
    return sum(map(len, words)) + len(words)


class Requests:
    """Makes the requests of a workload. The n-th is the same in every run with the same seed, and like no other.

    Args:
        workload: what they look like.
        model: the id they name.
        head: request lines and headers for a body of a given length.
        control: fields that force the output length.
        usage: whether usage may be asked for.
        calibration: how long prompts must be made.
    """

    def __init__(
        self,
        workload: Workload,
        model: str,
        head: tuple[bytes, bytes],
        calibration: Calibration,
        *,
        control: str = "none",
        usage: bool = True,
    ) -> None:
        self.workload = workload
        self.calibration = calibration
        self._head = head
        self._control = control
        self._fixed: dict[str, Any] = {"model": model, "stream": True, "temperature": 0}
        if usage:
            self._fixed["stream_options"] = {"include_usage": True}
        self._prefixes = [random.Random(f"{workload.seed}/prefix/{i}").choices(WORDS, k=4096) for i in
                          range(workload.shared_prefixes)] if workload.shared_prefix_frac else []  # fmt: skip

    def first(self, index: int, prompt: int | None = None, output: int | None = None) -> Ask:
        """The first request of a conversation; a trace may say how long it is."""
        rng = random.Random(self.workload.seed * 1_000_003 + index)
        drawn = self._lengths(rng)
        prompt, output = prompt or drawn[0], output or drawn[1]
        return self.ask(({"role": "user", "content": self._prompt(rng, prompt)},), prompt, output)

    def following(self, index: int, turn: int, before: Ask, answer: str) -> Ask:
        """The next turn of a conversation: everything said before, the answer, and new words."""
        rng = random.Random((self.workload.seed * 1_000_003 + index) * 1009 + turn)
        prompt, output = self._lengths(rng)
        said = (
            *before.messages,
            {"role": "assistant", "content": answer},
            {"role": "user", "content": _spaced(self.calibration.drawn(rng, prompt))},
        )
        return self.ask(said, before.prompt_target + before.output_target + prompt, output)

    def ask(self, messages: tuple[Mapping[str, str], ...], prompt: int, output: int) -> Ask:
        """The bytes of a request."""
        body = dict(self._fixed)
        if self.workload.api == "chat":
            body["messages"] = list(messages)
        else:
            body["prompt"] = "".join(m["content"] for m in messages)
        body["max_tokens"] = output
        if self._control == "ignore_eos":
            body["ignore_eos"] = True
        elif self._control == "generation_config":
            # transformers serve refuses unknown fields and takes this one as JSON text.
            body["generation_config"] = json.dumps({"min_new_tokens": output, "max_new_tokens": output})
        body.update(self.workload.extra_body)
        data = json.dumps(body).encode()
        return Ask(self._head[0] + str(len(data)).encode() + self._head[1] + data, prompt, output, messages)

    def _lengths(self, rng: random.Random) -> tuple[int, int]:
        workload = self.workload
        return (
            workload.prompt_tokens.draw(rng.random(), rng.gauss(0, 1)),
            workload.output_tokens.draw(rng.random(), rng.gauss(0, 1)),
        )

    def _prompt(self, rng: random.Random, tokens: int) -> str:
        own = self.calibration.drawn(rng, tokens)
        shared = round(len(own) * self.workload.shared_prefix_frac)
        if not shared:
            return _spaced(own)
        prefix = rng.choice(self._prefixes)
        repeated = prefix * (shared // len(prefix) + 1)
        return _spaced(repeated[:shared] + own[shared:])


def _spaced(words: list[str]) -> str:
    return " " + " ".join(words) if words else ""
