"""Stops a service that a person named, and starts it again when Assay is done with its place, or gone.

Started as ``python -I -S drain_guard.py CONFIG`` where CONFIG is one JSON object::

    {"name": ..., "active": [...], "stop": [...], "start": [...], "state": file, "grace_s": s, "command_s": s}

It stops the service itself, so that there is no moment in which the service is down and nobody minds it. Standard
input is the read end of a pipe that Assay holds and never writes to: the kernel closes it when Assay is gone, however
it went. Standard output gets one line, ``{"drained": true}``, ``{"drained": false}`` (it did not run) or
``{"error": ...}``. The state file says how it stands; what a guard that was killed left behind is mended from it.
Standard library only.
"""

# It runs without site-packages and outlives everything, so it speaks to the system directly.
# ruff: noqa: PTH105, PTH123

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SCHEMA = "assay.drain/1"
STEP_S = 0.1
TRIES = 3


def write_state(config: dict[str, Any], word: str, error: str = "") -> None:
    """Replace the state file as a whole: `stopping`, `drained`, `restored`, `lost`."""
    path = config["state"]
    aside = f"{path}.{os.getpid()}"
    state = {
        "schema": SCHEMA,
        "state": word,
        "error": error,
        "guard_pid": os.getpid(),
        "at": time.time(),
        **{k: config[k] for k in ("name", "active", "stop", "start", "grace_s", "command_s")},
    }
    with open(aside, "w", encoding="utf-8") as handle:
        json.dump(state, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(aside, path)


def run(command: Sequence[str], limit_s: float) -> tuple[int, str]:
    """Exit code and last words of a command of the service manager."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 127, str(error)
    words = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, words[-1] if words else ""


def is_active(config: dict[str, Any]) -> bool:
    """Whether the manager says that the service runs."""
    return run(config["active"], config["command_s"])[0] == 0


def restore(config: dict[str, Any]) -> str:
    """Start the service until the manager says that it runs; returns the error, empty if it does."""
    words = ""
    for attempt in range(TRIES):
        if is_active(config):
            return ""
        code, words = run(config["start"], config["command_s"])
        words = words or f"exit {code}"
        deadline = time.monotonic() + config["grace_s"]
        while time.monotonic() < deadline:
            if is_active(config):
                return ""
            if code != 0:
                break
            time.sleep(STEP_S)
        time.sleep(STEP_S * (attempt + 1))
    return f"it could not be started again: {words}"


class DrainGuard:
    """The time in which a service is down."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.asked = False

    def run(self) -> int:
        """Stop it, wait until it is wanted again, start it."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.noted)
        if not is_active(self.config):
            self.say({"drained": False})
            return 0
        write_state(self.config, "stopping")
        code, words = run(self.config["stop"], self.config["command_s"])
        if code != 0 or not self.gone():
            error = words or (f"exit {code}" if code else f"it still runs after {self.config['grace_s']:g} s")
            self.back(f"the service manager did not stop it: {error}")
            return 1
        write_state(self.config, "drained")
        self.say({"drained": True})
        while not self.asked:
            readable, _, _ = select.select([0], [], [], 1.0)
            if readable and not os.read(0, 512):
                break
        return self.back("")

    def noted(self, _number: int, _frame: object) -> None:
        """Any signal means: give it back now."""
        self.asked = True

    def gone(self) -> bool:
        """Whether the manager says within the grace that it does not run."""
        deadline = time.monotonic() + self.config["grace_s"]
        while time.monotonic() < deadline:
            if not is_active(self.config):
                return True
            time.sleep(STEP_S)
        return False

    def back(self, cause: str) -> int:
        """Start it again and write down whether that worked."""
        error = restore(self.config)
        with contextlib.suppress(OSError):
            write_state(self.config, "lost" if error else "restored", error)
        if cause:
            self.say({"error": f"{cause}{'; ' + error if error else ''}"})
        return 1 if error else 0

    def say(self, message: dict[str, Any]) -> None:
        """Tell Assay the one thing that it waits for; it may be gone."""
        with contextlib.suppress(OSError):
            os.write(1, (json.dumps(message) + "\n").encode())
            os.close(1)


if __name__ == "__main__":
    sys.exit(DrainGuard(json.loads(sys.argv[1])).run())
