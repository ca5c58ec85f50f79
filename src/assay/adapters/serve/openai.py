"""Kind `openai`: an endpoint that already runs. It is checked, lent, and left alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator

from assay.core.base import Noun
from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.vocabulary import FailureClass, Verb
from assay.runtime import ready

TRIES = 3
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Options(Noun):
    """Where the endpoint is and how it is addressed."""

    base_url: str
    """Up to and including `/v1`."""
    model: str = Field(min_length=1)
    """Model id. A dated version of it in the answers counts as it, once the endpoint lists models."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds the key. The key itself is never stored."""
    engine: str = "openai"
    """What serves there, for the record."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for the first token."""
    facts: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    """What you know of its serving (dtype, context): recorded, as Assay cannot see it."""

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
            raise ValueError("must be http(s)://host[:port]/v1, without user, password or query")
        if not parts.path.rstrip("/").endswith("/v1"):
            raise ValueError("must end in /v1")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            # The value may be the key itself: it must not appear in a message.
            raise ValueError("must be the name of an environment variable, not the key")
        return value


class Adapter:
    """Lends an endpoint that somebody else runs."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the key's variable is set. The endpoint itself is asked when it is used."""
        name = self.options.api_key_env
        if name and not os.environ.get(name):
            return Component(
                verb=Verb.SERVE,
                kind="openai",
                state="missing",
                detail=f"environment variable {name} is not set",
            )
        return Component(verb=Verb.SERVE, kind="openai", state="ready", detail=self.options.base_url)

    def protocol(self) -> Mapping[str, Any]:
        """What the user says of it. The address and model are the subject, not the protocol."""
        return {"engine": self.options.engine, **self.options.facts}

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """Check that it serves the model and answers, then lend it. `target` is not loaded: it must be there.

        Raises:
            ComponentMissing: if the key's variable is not set.
            ComponentFailed: DEPLOYMENT_HEALTH_FAILED if it serves another model or gives no token,
                INFRA_TRANSIENT if it cannot be reached, USER_CONFIG_ERROR if it refuses the key.
        """
        proof = self._proof()
        session.note(f"openai: {target.name} is {proof.answered_model} at {self.options.base_url}")
        yield Endpoint(
            base_url=self.options.base_url,
            model=self.options.model,
            engine=self.options.engine,
            facts={**self.protocol(), "api_key_env": self.options.api_key_env},
        )

    def _proof(self) -> ready.Ready:
        asked = ready.Probe(
            root=self.options.base_url.removesuffix("/v1"),
            model=self.options.model,
            health="",
            headers=self._headers(),
            environment_proxies=True,
            lenient_prefix=True,
        )
        reason = ""
        with ready.client(asked) as http:
            for _ in range(TRIES):
                try:
                    return ready.prove(http, asked, self.options.timeout_s)
                except ready.Mute as error:
                    reason = str(error)
        reached = "answered nothing" not in reason
        raise ComponentFailed(
            f"no token came back: {reason}",
            failure_class=FailureClass.DEPLOYMENT_HEALTH_FAILED if reached else FailureClass.INFRA_TRANSIENT,
            where=self.options.base_url,
            next="check that the endpoint runs and serves this model",
        )

    def _headers(self) -> Mapping[str, str]:
        name = self.options.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name)
        if not key:
            raise ComponentMissing(
                f"environment variable {name} is not set",
                where="serve.api_key_env",
                next=f"export {name}=...",
            )
        try:
            httpx.Headers({"Authorization": f"Bearer {key}"})
        except (UnicodeError, ValueError):
            raise ComponentMissing(f"environment variable {name} holds no usable key", where=name) from None
        return {"Authorization": f"Bearer {key}"}
