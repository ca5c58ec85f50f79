"""What stays up over several steps of one trial, such as servers: a look then costs its samples and no start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from assay.core.ports import Session
from assay.engine.session import RecordedExecute

T = TypeVar("T")


class Kept:
    """At most one thing a key; all of them end with the trial, whatever ends it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._things: dict[str, Any] = {}

    @contextmanager
    def of_a_trial(self) -> Iterator[None]:
        """Whatever is started inside ends here."""
        try:
            yield
        finally:
            self.close()

    def keep(
        self,
        key: str,
        session: Callable[[], tuple[Session, RecordedExecute]],
        start: Callable[[Session], AbstractContextManager[T]],
    ) -> T:
        """The thing of that key, started with a session of its own if it is not there."""
        if key not in self._things:
            own, execute = session()
            self._stack.callback(execute.cancel_all)
            self._things[key] = self._stack.enter_context(start(own))
        thing: T = self._things[key]
        return thing

    def close(self) -> None:
        """End all of them."""
        self._things.clear()
        stack, self._stack = self._stack, ExitStack()
        stack.close()
