"""Servers that stay up over several steps of one trial, so that a look costs its samples and no start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from assay.core.ports import Endpoint
from assay.engine.session import RecordedExecute, StepSession


class KeptServers:
    """At most one server a key; all of them end with the trial, whatever ends it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._endpoints: dict[object, Endpoint] = {}

    @contextmanager
    def of_a_trial(self) -> Iterator[None]:
        """Whatever is started inside ends here."""
        try:
            yield
        finally:
            self.close()

    def endpoint(
        self,
        key: object,
        session: Callable[[], tuple[StepSession, RecordedExecute]],
        serve: Callable[[StepSession], AbstractContextManager[Endpoint]],
    ) -> AbstractContextManager[Endpoint]:
        """The endpoint of that key, started if it is not there; leaving it does not end it."""
        if key not in self._endpoints:
            own, execute = session()
            self._stack.callback(execute.cancel_all)
            self._endpoints[key] = self._stack.enter_context(serve(own))
        return nullcontext(self._endpoints[key])

    def close(self) -> None:
        """End all of them."""
        self._endpoints.clear()
        stack, self._stack = self._stack, ExitStack()
        stack.close()
