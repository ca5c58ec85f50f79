"""Waits for the end of guarded commands. `subprocess` looks every 50 ms; where the kernel can wake us, it does."""

from __future__ import annotations

import os
import select

from assay.runtime import process


def wait_for_end(guarded: process.Guarded, timeout_s: float) -> bool:
    """Wait for the end of a command and of everything below it; False if it still runs.

    Args:
        guarded: as `process.start` returned it.
        timeout_s: longest wait.
    """
    if hasattr(os, "pidfd_open") and guarded.guard.poll() is None:
        try:
            descriptor = os.pidfd_open(guarded.guard.pid)
        except OSError:
            return process.wait(guarded, timeout_s)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(max(0.0, timeout_s) * 1000):
                return False
        finally:
            os.close(descriptor)
    return process.wait(guarded, timeout_s)
