"""A `systemctl` of our own that manages one engine, and a machine on which nothing else is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SYSTEMCTL = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
from pathlib import Path
home = Path(__file__).parent
words = [w for w in sys.argv[1:] if not w.startswith("--")]
if "--user" in sys.argv or words[0] == "list-units":
    sys.exit(1)
verb, unit = words[0], words[1]
if unit != "our-engine.service":
    sys.exit(f"Unit {{unit}} could not be found.")
pid = home / "pid"
def alive():
    try:
        return Path(f"/proc/{{pid.read_text()}}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
if verb == "is-active":
    sys.exit(0 if alive() else 3)
if verb == "start" and not alive():
    child = subprocess.Popen([str(home / "llama-server"), "100"], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pid.write_text(str(child.pid))
if verb == "stop" and alive():
    os.kill(int(pid.read_text()), signal.SIGTERM)
"""


def runs(place: Path) -> bool:
    """Whether the service runs by its manager."""
    return (
        subprocess.run([place / "systemctl", "is-active", "our-engine.service"], check=False).returncode == 0
    )
