"""From the description of an agent to a command: placeholders, environment, version, fingerprint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.canon import digest
from assay.core.errors import ComponentMissing, UsageError
from assay.core.suite import why_unsafe
from assay.runtime.agents.presets import Preset
from assay.runtime.asking import filled
from assay.runtime.files import digest_file
from assay.runtime.verifier import INHERITED, inherited, without_secrets

VERSION_LIMIT_S = 30.0
PLACEHOLDERS = (
    "prompt",
    "prompt_file",
    "workdir",
    "artifact",
    "artifact_dir",
    "text_file",
    "result_file",
    "home",
    "seed",
    "rep",
    "task_id",
    "python",
    "model",
    "base_url",
    "name",
)


@dataclass(frozen=True)
class NamedFile:
    """A file that a command names, and so a part of the agent. What it loads is not seen."""

    path: Path
    digest: str
    stood: tuple[int, int]
    """Size, and time of its last change."""

    def changed(self) -> bool:
        """Whether it holds something else now."""
        try:
            return _stood(self.path) != self.stood and digest_file(self.path) != self.digest
        except OSError:
            return True


@dataclass(frozen=True)
class Template:
    """An agent's command before anything is filled in."""

    parts: tuple[str, ...]
    deliver: str
    program: str
    """Path of the program; empty if it is not there."""
    version: str
    """What it says of itself, or the digest of its file."""
    files: tuple[NamedFile, ...]


def template(agent: AgentCommand, preset: Preset, artifact: TextArtifact) -> Template:
    """Find the program and ask for its version.

    Raises:
        ComponentMissing: if the program is not there.
        UsageError: if the place of the text in the workspace is not safe.
    """
    parts = agent.command or preset.command(agent, artifact.kind)
    deliver = (agent.deliver or preset.deliver(artifact.kind)).replace("{name}", artifact.name)
    if deliver and (why := why_unsafe(deliver.rstrip("/"))):
        raise UsageError(f"the path {deliver[:80]!r} is not allowed: {why}", where="agent.deliver")
    program = program_of(parts[0])
    if not program and not contained(agent):
        raise ComponentMissing(
            f"the agent's program {parts[0]!r} does not exist or cannot be executed",
            where="agent",
            next="install it, or name it by its full path in `agent.command`",
        )
    files = tuple(NamedFile(f, digest_file(f), _stood(f)) for f in named_files(parts))
    return Template(parts, deliver, program, _version(agent, preset, program), files)


def contained(agent: AgentCommand) -> bool:
    """Whether the program is one of a container and not of this machine."""
    return agent.isolation == "docker" or (agent.isolation == "auto" and bool(agent.options.get("image")))


def program_of(name: str) -> str:
    """Path of a program, or empty."""
    return shutil.which(sys.executable if name == "{python}" else name) or ""


def clean(command: tuple[str, ...], agent: AgentCommand, given: Mapping[str, str]) -> tuple[str, ...]:
    """The command without the variables of our environment that the agent may not see."""
    return without_secrets(command, (*INHERITED, *agent.env, *given))


def seen_by(agent: AgentCommand, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of our environment that the agent may see."""
    return inherited((*INHERITED, *agent.env, *given))


def fingerprint(agent: AgentCommand, made: Template, kind: TextKind, isolation: str) -> str:
    """Digest of all that makes runs comparable. Values of variables, retries and prices are no part of it."""
    return digest(
        {
            "preset": agent.preset,
            "command": list(made.parts),
            "deliver": made.deliver,
            "kind": kind.value,
            "version": made.version,
            "files": sorted(f.digest for f in made.files),
            "model": agent.model,
            "base_url": agent.base_url,
            "env": sorted(agent.env),
            "timeout_s": agent.timeout_s,
            "output_bytes": agent.output_bytes,
            "isolation": isolation,
            "options": agent.to_json()["options"],
        }
    )


def named_files(parts: tuple[str, ...]) -> list[Path]:
    """The files that a command names, alone or as the value of an option."""
    values = [p.partition("=")[2] if p.startswith("-") and "=" in p else p for p in parts[1:]]
    paths = {Path(v) for v in values if len(v) < 4096 and "{" not in v and "\0" not in v and os.sep in v}
    return [p for p in sorted(paths) if p.is_file()]


def _stood(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _version(agent: AgentCommand, preset: Preset, program: str) -> str:
    command = agent.version_command or (() if agent.command else preset.version_command)
    if not command:
        return digest_file(Path(program)) if program and not contained(agent) else "unknown"
    command = tuple(filled(p, {"python": sys.executable, "model": agent.model}) for p in command)
    if not (found := shutil.which(command[0])):
        return "unknown"
    with tempfile.TemporaryDirectory(prefix="assay-version-") as home:
        given = {"HOME": home}
        try:
            ran = subprocess.run(
                clean((found, *command[1:]), agent, given),
                env={**os.environ, **given},
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=VERSION_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return "unknown"
    return (ran.stdout or ran.stderr).decode("utf-8", "replace").strip()[:200] or "unknown"
