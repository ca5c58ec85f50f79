"""Runs many draws: in order, some at the same time, each kept in the journal, none of them twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from assay.core.agent import AgentRun
from assay.core.canon import digest_bytes
from assay.core.errors import ComponentFailed, UsageError
from assay.core.suite import Suite
from assay.core.vocabulary import FailureClass
from assay.runtime.agents.journal import RunJournal
from assay.runtime.agents.plan import Draw
from assay.runtime.agents.runner import AgentRunner, Stopped

INFRA_IN_A_ROW = 5
"""So many infra errors after each other are no chance."""


def text_digest(text: str) -> str:
    """What a text is known by in runs."""
    return digest_bytes(text.encode("utf-8", "surrogateescape"))


def run_all(
    runner: AgentRunner,
    suite: Suite,
    texts: Mapping[str, str],
    draws: Sequence[Draw],
    journal: RunJournal,
    *,
    parallel: int,
    on_run: Callable[[AgentRun, int, int], None],
    stop: Callable[[AgentRun], str | None] = lambda run: None,
) -> list[AgentRun]:
    """Do all draws that the journal does not hold yet.

    Infra errors are kept in the journal once a run that began after them has learned something: those of a machine that
    is down are tried again by a resumed study.

    Args:
        runner: runs one.
        suite: holds the tasks.
        texts: arm → text.
        draws: in the order in which they are started.
        journal: where finished runs are kept.
        parallel: runs at the same time.
        on_run: called after each run with the number of finished draws and of all.
        stop: called after each run; a reason ends the work, and runs under way are still kept.

    Returns:
        The finished runs of these draws, in the order of the draws.

    Raises:
        ComponentFailed: INFRA_TRANSIENT, after `INFRA_IN_A_ROW` infra errors after each other.
        UsageError: if a draw names an unknown task or arm, or the journal holds another text's run.
    """
    tasks = {t.task_id: t for t in suite.tasks}
    for draw in draws:
        if draw.task not in tasks or draw.arm not in texts:
            raise UsageError(f"no task {draw.task!r} or no text for the arm {draw.arm!r}")
        known = journal.done.get(draw.key)
        if known is not None and known.text != text_digest(texts[draw.arm]):
            raise UsageError(f"the run {draw.key} in the journal had another text", where=str(journal.path))

    def begin(place: int, draw: Draw) -> AgentRun:
        return runner.run(
            tasks[draw.task],
            texts[draw.arm],
            arm=draw.arm,
            rep=draw.rep,
            seed=draw.seed,
            block=draw.block,
            place=place,
        )

    work = _Work(draws, journal, begin)
    try:
        try:
            work.done(parallel, on_run, stop)
        except ComponentFailed:
            work.keep_finished()  # runs under way cost what they cost: they may end, and are not done again
            raise
    except BaseException:
        runner.stop()
        work.keep_finished()
        raise
    finally:
        work.pool.shutdown(wait=True, cancel_futures=True)
    return [journal.done[d.key] for d in draws if d.key in journal.done]


class _Work:
    """Draws that wait, run, and are finished."""

    def __init__(
        self, draws: Sequence[Draw], journal: RunJournal, begin: Callable[[int, Draw], AgentRun]
    ) -> None:
        self.journal = journal
        self.begin = begin
        self.of = len(draws)
        self.waiting = deque((place, d) for place, d in enumerate(draws) if d.key not in journal.done)
        self.finished = self.of - len(self.waiting)
        self.open: set[Future[AgentRun]] = set()
        self.ready: set[Future[AgentRun]] = set()
        """Those that ended together, and are looked at now."""
        self.held: list[tuple[int, AgentRun]] = []
        """Infra errors that may be those of a machine that is down, with the number of their end."""
        self.in_a_row = 0
        self.begun: dict[tuple[str, str, int], int] = {}
        """How many runs had ended when one began."""
        self.pool = ThreadPoolExecutor(thread_name_prefix="agent", max_workers=64)

    def done(
        self,
        parallel: int,
        on_run: Callable[[AgentRun, int, int], None],
        stop: Callable[[AgentRun], str | None],
    ) -> None:
        """Work them off."""
        ended = False
        while self.open or (self.waiting and not ended):
            while self.waiting and not ended and len(self.open) < parallel:
                place, draw = self.waiting.popleft()
                self.begun[draw.key] = self.finished
                self.open.add(self.pool.submit(self.begin, place, draw))
            self.ready, self.open = wait(self.open, return_when=FIRST_COMPLETED)
            for run in sorted((f.result() for f in self.ready), key=lambda r: r.place):
                self._finish(run)
                on_run(run, self.finished, self.of)
                ended = stop(run) is not None or ended
        self._keep([run for _, run in self.held])

    def keep_finished(self) -> None:
        """What was under way ends, by itself or because it is told to, and is kept if it was learned."""
        for future in (*self.ready, *self.open):
            if future.cancel():
                continue
            try:
                run = future.result()
            except (Stopped, ComponentFailed, UsageError):
                continue
            if run.learned and run.key not in self.journal.done:
                self.journal.add(run)

    def _finish(self, run: AgentRun) -> None:
        self.finished += 1
        if not run.learned:
            self.held.append((self.finished, run))
            self.in_a_row += 1
            if self.in_a_row >= INFRA_IN_A_ROW:
                raise _down(run, self.in_a_row)
            return
        # a run that was under way when others broke down does not show that the machine is up again
        before = self.begun[run.key]
        self._keep([*(r for end, r in self.held if end <= before), run])
        self.held = [(end, r) for end, r in self.held if end > before]
        self.in_a_row = 0

    def _keep(self, runs: Sequence[AgentRun]) -> None:
        for run in runs:
            self.journal.add(run)


def _down(last: AgentRun, times: int) -> ComponentFailed:
    return ComponentFailed(
        f"{times} infra errors after each other, the last one: {last.reason}",
        failure_class=FailureClass.INFRA_TRANSIENT,
        where=f"agent, task {last.task}",
        next="mend it, then `assay resume`",
        log_tail=last.said,
    )
