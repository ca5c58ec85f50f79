"""Which distributions an interpreter has, without importing any of them."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.ports import Component

_SCRIPT = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
TIMEOUT_S = 20.0


def interpreter(python: str | None) -> str:
    """The interpreter that an option `python` names; None = the one that runs Assay."""
    return python or sys.executable


def versions(packages: Sequence[str], python: str | None = None) -> Mapping[str, str]:
    """Distribution → version, for those that the interpreter has; empty if there is no such interpreter."""
    if python is None or _same(python):
        return _own(tuple(packages))
    return _foreign(tuple(packages), python)


def component(
    verb: str,
    kind: str,
    packages: Sequence[str],
    python: str | None,
    extra: str,
    optional: Sequence[str] = (),
) -> Component:
    """What `assay doctor` says about a kind that needs these distributions.

    Args:
        verb: `serve`, `build`, ...
        kind: the adapter's name.
        packages: all of them must be there.
        python: interpreter that runs the vendor; None = ours.
        extra: name of our extra that installs them; empty if there is none.
        optional: distributions whose version is worth telling.
    """
    place = interpreter(python)
    if python is not None and not Path(place).exists():
        return Component(
            verb=verb, kind=kind, state="missing", detail=f"the interpreter {place} does not exist"
        )
    found = versions((*packages, *optional), python)
    absent = [name for name in packages if name not in found]
    if not absent:
        return Component(verb=verb, kind=kind, state="ready", vendor=found)
    install = (
        f"pip install 'assay[{extra}]'" if extra and python is None else f"{place} -m pip install {absent[0]}"
    )
    return Component(
        verb=verb,
        kind=kind,
        state="missing",
        vendor=found,
        detail=f"{', '.join(absent)} not installed for {place}: {install}",
    )


def _same(python: str) -> bool:
    # Not resolved: the interpreters of two environments may be links to one binary.
    return Path(python).absolute() == Path(sys.executable).absolute()


@functools.cache
def _own(packages: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _foreign(packages: tuple[str, ...], python: str) -> Mapping[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", _SCRIPT, *packages],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
