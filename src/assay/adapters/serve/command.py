"""Kind `command`: any server that speaks the OpenAI protocol, by its command line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.vocabulary import Verb
from assay.runtime import asking
from assay.runtime.serving import Server, ServerOptions, model_id, serving


class Options(ServerOptions):
    """The command and what is known of it."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; no shell. `{model}` is the checkpoint's path, `{port}` and `{host}` where to
    listen, `{name}` the model id to answer to, `{seed}` the study's seed. Other braces stay as they are."""
    model_id: str = "{name}"
    """The id that it answers to; the same placeholders."""
    health_path: str = "/health"
    """Path that answers 200 once it is healthy; empty or 404 = it has none, and the first token decides."""
    engine: str = "command"
    """What it is, for the record."""
    version: str = ""
    """Its version, for the record."""
    facts: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    """What you know of its serving (dtype, context): recorded, as Assay cannot see it."""

    @model_validator(mode="after")
    def _has_port(self) -> Self:
        if self.port == 0 and not any("{port}" in word for word in self.command):
            raise ValueError("the command must hold {port}, or `port` must say where it listens")
        if not self.health_path.startswith("/") and self.health_path:
            raise ValueError("health_path must begin with /")
        return self


class Adapter:
    """Starts the user's own server and ends it."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program is there."""
        program = self.options.command[0]
        found = shutil.which(program)
        if found is None:
            return Component(
                verb=Verb.SERVE,
                kind="command",
                state="missing",
                detail=f"the program {program!r} is not there",
            )
        return Component(verb=Verb.SERVE, kind="command", state="ready", detail=found)

    def protocol(self) -> Mapping[str, Any]:
        """The command as written, and what the user says of it."""
        return {
            "engine": self.options.engine,
            "engine_version": self.options.version,
            "command": list(self.options.command),
            "extra_args": list(self.options.extra_args),
            "env": dict(self.options.env),
            **self.options.facts,
        }

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """Start it and lend it.

        Raises:
            UsageError: if the port is taken.
            ComponentMissing, ComponentFailed: see the port.
        """
        chosen = self.options
        server = Server(
            engine=chosen.engine,
            version=chosen.version,
            model=self._filled(chosen.model_id, target, 0, session.seed),
            command=lambda port: self.command(target, port, session.seed),
            health=chosen.health_path,
            facts=self.protocol(),
        )
        with serving(server, chosen, session) as endpoint:
            yield endpoint

    def command(self, target: Target, port: int, seed: int) -> tuple[str, ...]:
        """The command line with its placeholders filled."""
        words = (*self.options.command, *self.options.extra_args)
        return tuple(self._filled(word, target, port, seed) for word in words)

    def _filled(self, word: str, target: Target, port: int, seed: int) -> str:
        values = {
            "model": str(Path(target.path).absolute()),
            "port": str(port),
            "host": self.options.host,
            "name": model_id(target.name),
            "seed": str(seed),
        }
        return asking.filled(word, values)
