"""Keeps one attempt of a training: the guard of `runtime.guard`, except that it lets the work outlive the watcher.

Started as ``python -I -S keeper.py CONFIG``; the configuration is that of the guard. What differs:

- The command waits before its first instruction until the watcher has recorded it: the watcher writes one byte to
  our standard input. If the watcher dies before that, the command never starts.
- When the watcher is gone, the training goes on; its log says so. We stay as its parent, so that the status file
  tells the true exit, signal and resource use to whoever concludes the attempt.
- The end is asked for from the top: each direct child gets one SIGTERM, and what it leaves behind gets its own.
  A trainer that saves a checkpoint on SIGTERM then still has its loader workers. SIGKILL reaches all.
- SIGINT to us means at once: no grace.
- The log is kept below a limit by cutting out its middle. The command writes into the file itself, so that neither
  our death nor our slowness stops it.
"""

# It runs without site-packages, like the guard.
# ruff: noqa: PTH100, PTH120, S606

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __name__ != "__main__":
    from assay.runtime import guard
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import guard

CANNOT_EXECUTE = 127
LOOK_S = 1.0
"""Between two looks at the size of the log."""


class Keeper(guard.Guard):
    """The life of one attempt."""

    at_once = False
    """SIGINT arrived: whatever is left is killed without grace."""
    hold = told = -1
    """Ends of the pipes that hold the child back, and that tell why it could not be executed."""
    left_out = 0
    """Bytes that were cut out of the log."""

    def noted(self, number: int, frame: object) -> None:
        """SIGINT ends the grace; the rest is as in the guard."""
        if number == signal.SIGINT:
            self.at_once = True
        super().noted(number, frame)

    def run(self) -> int:
        """Start held back, be recorded, let go, watch, end what is left, write down how it went."""
        guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)
        wake, wake_in = os.pipe()
        for end in (wake, wake_in):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self.noted)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self.spawn()
            self.write()
        except OSError as error:
            self.ending = self.ending or "cancelled"
            if self.pid:
                self.kill_all()
            self.tell({"error": error.strerror or str(error), "errno": error.errno})
            return 1
        if not self.released():
            self.kill_all()
            return 1
        self.watch(wake)
        self.sweep()
        self.shorten()
        with contextlib.suppress(OSError):
            self.write()
        return 0

    def tell(self, message: dict[str, object]) -> None:
        """One line to the watcher; it may be gone."""
        with contextlib.suppress(OSError):
            os.write(1, (json.dumps(message) + "\n").encode())

    def spawn(self) -> None:
        """Fork; the child sets itself up and waits for the word before it executes the command."""
        log = os.open(self.config["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.config["log_offset"] = os.fstat(log).st_size
        told, tell = os.pipe()
        held, self.hold = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.hold)
            self.become(log, held, tell)
        for end in (tell, log, held):
            os.close(end)
        self.told = told
        self.config["info"]["pid_ticks"] = guard.start_ticks(self.pid)

    def become(self, log: int, held: int, tell: int) -> None:
        """In the child: wait, then be the command."""
        try:
            os.setsid()
            for caught in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(caught, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if not os.read(held, 1):
                os._exit(CANNOT_EXECUTE)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for target, source in ((0, nothing), (1, log), (2, log)):
                os.dup2(source, target)
            os.chdir(self.config["cwd"])
            os.execvp(self.config["command"][0], self.config["command"])
        except OSError as error:
            os.write(tell, str(error.errno or 0).encode())
        finally:
            os._exit(CANNOT_EXECUTE)

    def released(self) -> bool:
        """Tell the pid, wait for the watcher's word, let the command go, and tell whether it was executed."""
        self.tell({"pid": self.pid, "ticks": guard.start_ticks(self.pid)})
        if not os.read(0, 1):
            return False
        os.write(self.hold, b"g")
        os.close(self.hold)
        number = os.read(self.told, 16)
        os.close(self.told)
        if number:
            self.tell({"error": os.strerror(int(number)), "errno": int(number)})
        else:
            self.tell({"executed": True})
        with contextlib.suppress(OSError):
            os.close(1)
        return True

    def watch(self, wake: int) -> None:
        """Until the command ends, a signal asks for the end, or the time is up; without the watcher as well."""
        limit = self.config["timeout_s"]
        watched = [0]
        while not self.ending and not self.reap():
            left = None if limit is None else limit - (time.monotonic() - self.clock)
            if left is not None and left <= 0:
                self.ending = "timed_out"
                break
            self.shorten()
            readable, _, _ = select.select(
                [*watched, wake], [], [], LOOK_S if left is None else min(left, LOOK_S)
            )
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 512)
            if 0 in readable and not os.read(0, 512):
                watched = []
                self.unwatched()

    def unwatched(self) -> None:
        """Say in the log, and in the status, that nobody watches any more."""
        self.config["info"]["unwatched_since"] = guard.utc_now()
        with contextlib.suppress(OSError):
            log = os.open(self.config["log"], os.O_WRONLY | os.O_APPEND)
            os.write(log, f"\n[assay] {self.config['unwatched']}\n".encode())
            os.close(log)
        with contextlib.suppress(OSError):
            self.write()

    def shorten(self) -> None:
        """Cut the middle out of a log that is over its limit: an eighth of the limit stays of either end.

        What the command writes between our look and the cut is lost; it appends, so what follows stands in order.
        """
        limit: int = self.config["log_limit_bytes"]
        with contextlib.suppress(OSError):
            log = os.open(self.config["log"], os.O_RDWR | os.O_APPEND)
            try:
                size, head = os.fstat(log).st_size, self.config["log_offset"] + limit // 8
                if size - self.config["log_offset"] <= limit:
                    return
                end = os.pread(log, limit // 8, size - limit // 8)
                os.ftruncate(log, head)
                self.left_out += size - head - len(end)
                said = f"\n[assay] about {self.left_out} bytes of output are left out here: a log has at most {limit}\n"
                rest = memoryview(said.encode() + end)
                while rest:
                    rest = rest[os.write(log, rest) :]
            finally:
                os.close(log)

    def reap(self) -> bool:
        """As the guard does, and keep what the command used."""
        while True:
            try:
                pid, raw, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                self.raw, self.wall_s = raw, time.monotonic() - self.clock
                self.config["info"]["resources"] = {
                    "wall_s": round(self.wall_s, 3),
                    "user_s": round(used.ru_utime, 3),
                    "system_s": round(used.ru_stime, 3),
                    "max_rss_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                }
        return self.raw is not None

    def sweep(self) -> None:
        """One SIGTERM to each direct child as it becomes one, grace, SIGKILL until nothing is left."""
        deadline = time.monotonic() + self.config["grace_s"]
        asked: set[int] = set()
        while self.left() and time.monotonic() < deadline and not self.at_once:
            for pid in self.direct() - asked:
                asked.add(pid)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(guard.STEP_S)
        self.kill_all()

    def direct(self) -> set[int]:
        """Children of ours; where orphans do not come to us, the whole group of the command."""
        if not guard.LINUX:
            return set(guard.descendants(self.pid))
        return {pid for pid, parent, _ in guard.processes() if parent == os.getpid()}

    def kill_all(self) -> None:
        """SIGKILL until nothing that we started is left."""
        while self.left():
            guard.send_all(self.pid, signal.SIGKILL, 0)
            time.sleep(guard.STEP_S)
        self.reap()


if __name__ == "__main__":
    sys.exit(Keeper(json.loads(sys.argv[1])).run())
