"""Suite: the tasks that a text is judged by. What decides a task is never where the agent can reach it.

A suite carries the bytes of its files, so that a study judges by the suite that it opened with, whatever happens to
the folder meanwhile. Every path in it is relative, and cannot lead out of the folder that it is written to.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.core.base import Noun
from assay.core.canon import digest, digest_bytes

PATH_LIMIT_CHARS = 1_000
PART_LIMIT_BYTES = 255
VERIFY_TIMEOUT_S = 60.0
FIXTURE_DIR = "{fixture_dir}"
"""In a prompt: the folder that the agent works in."""
PYTHON = "{python}"
"""In a verifier's command: the interpreter that Assay runs with."""

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def folded(path: str) -> str:
    """A path as the least exact file system tells it: without case, in one Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())


def why_unsafe(path: str) -> str:
    """Why a fixture's path is refused; empty for a safe one.

    Safe is what means the same relative file on every system: no `..`, no absolute path or drive, no name that some
    system trims, reserves or hides.
    """
    if not path or len(path) > PATH_LIMIT_CHARS:
        return f"it has {len(path)} characters; 1 to {PATH_LIMIT_CHARS} are allowed"
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in path):
        return "it holds a control or invisible character"
    if "\\" in path or ":" in path:
        return "it holds a backslash or colon"
    if path.startswith(("/", "~")):
        return "it is not relative"
    for part in path.split("/"):
        plain = unicodedata.normalize("NFKC", part)
        if plain in {"", ".", ".."} or ".." in {plain.strip(), plain.strip(". ")}:
            return "it holds an empty part, '.' or '..'"
        if "/" in plain or "\\" in plain:
            return "it holds a character that some systems read as a separator"
        if part != part.strip() or part.endswith("."):
            return f"the part {part!r} begins or ends with a space, or ends with a dot"
        if _RESERVED.fullmatch(plain):
            return f"{part!r} is a device on some systems"
        if len(part.encode()) > PART_LIMIT_BYTES:
            return f"a part is longer than {PART_LIMIT_BYTES} bytes"
    return ""


def same_content(left: bytes, right: bytes) -> bool:
    """Whether two files are equal but for whitespace at the ends of lines and of the file."""
    return _trimmed(left) == _trimmed(right)


def _trimmed(data: bytes) -> list[bytes]:
    return [line.rstrip() for line in data.rstrip().split(b"\n")]


class Fixture(Noun):
    """One file with its bytes."""

    path: str
    """Relative, with `/`."""
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    executable: bool = False

    @field_validator("path")
    @classmethod
    def _safe(cls, path: str) -> str:
        if reason := why_unsafe(path):
            raise ValueError(f"the path {path[:80]!r} is not allowed: {reason}")
        return path

    @model_validator(mode="after")
    def _has_bytes(self) -> Self:
        try:
            _ = self.data
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"{self.path}: the content is not {self.encoding}") from error
        return self

    @classmethod
    def of(cls, path: str, data: bytes, *, executable: bool = False) -> Fixture:
        """A fixture of any bytes."""
        try:
            return cls(path=path, content=data.decode("utf-8"), executable=executable)
        except UnicodeDecodeError:
            text = base64.b64encode(data).decode("ascii")
            return cls(path=path, content=text, encoding="base64", executable=executable)

    @cached_property
    def data(self) -> bytes:
        """The file's bytes."""
        if self.encoding == "base64":
            return base64.b64decode(self.content, validate=True)
        return self.content.encode("utf-8")

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of the bytes."""
        return digest_bytes(self.data)

    @property
    def text(self) -> str:
        """The content where it is text, else empty."""
        return self.content if self.encoding == "utf-8" else ""


class Verifier(Noun):
    """What decides a task after the agent has ended. All that is named must hold."""

    command: tuple[str, ...] = ()
    """Without a shell, in the folder that is judged; exit code 0 = passed, anything else = failed."""
    timeout_s: float = Field(default=VERIFY_TIMEOUT_S, gt=0, le=3600)
    """Running into it is a failure of the task, not of the machine."""
    files: tuple[Fixture, ...] = ()
    """Deciding tests: put in place after the agent has ended, over whatever lies there."""
    collect: tuple[str, ...] = ()
    """Glob patterns of the files that are taken from the agent's folder to be judged; empty = all of them."""
    equals: tuple[Fixture, ...] = ()
    """Files that must be there with this content, whitespace at ends of lines ignored; compared without a process."""
    expected_tools: tuple[str, ...] = ()
    """At least one of them must have been called."""
    forbidden_tools: tuple[str, ...] = ()
    """None of them may have been called."""

    @property
    def decides(self) -> bool:
        """Whether anything can fail here; a verifier that names nothing passes whatever happened."""
        return bool(self.command or self.equals or self.by_tools)

    @property
    def by_tools(self) -> bool:
        """Whether the tools that were called have a say."""
        return bool(self.expected_tools or self.forbidden_tools)

    def tools_pass(self, called: Iterable[str]) -> bool:
        """Whether the calls of tools are as expected: at least one expected one, and none forbidden."""
        seen = set(called)
        wanted = not self.expected_tools or bool(seen & set(self.expected_tools))
        return wanted and not seen & set(self.forbidden_tools)


class Task(Noun):
    """One thing that the agent is asked to do, and how it is known whether it did."""

    task_id: str
    prompt: str
    """What the agent is told; `{fixture_dir}` stands for its folder."""
    fixtures: tuple[Fixture, ...] = ()
    """What lies in the agent's folder when it begins."""
    verifier: Verifier = Verifier()
    reference: tuple[Fixture, ...] = ()
    """A known solution, laid over the fixtures to prove that the task can be done. The agent never sees it."""
    protected: tuple[str, ...] = ()
    """Glob patterns of fixtures that the agent may read and not change; a change is told and taken back."""
    canary: bool = False
    """Needs the text to pass: fails with an empty text and passes with a known-good one, so that it proves that the
    text reaches the agent."""
    split: Literal["train", "select", "confirm"] | None = None
    """What the task is used for; None = the study draws."""
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of other harnesses, kept as they are."""

    @field_validator("task_id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        if not _TASK_ID.fullmatch(value) or why_unsafe(value):
            raise ValueError(f"task_id {value[:60]!r}: letters, digits, `.`, `_`, `-`, at most 100")
        return value

    @model_validator(mode="after")
    def _one_file_a_path(self) -> Self:
        for what, files in (
            ("fixtures", self.fixtures),
            ("verifier's files", self.verifier.files),
            ("reference's files", self.reference),
            ("expected files", self.verifier.equals),
        ):
            if clash := _clash([f.path for f in files]):
                raise ValueError(f"{what}: {clash}")
        # laid over each other, so the same path is one file and a look-alike is an attack
        parts = (self.fixtures, self.verifier.files, self.verifier.equals, self.reference)
        if clash := _clash(sorted({f.path for part in parts for f in part})):
            raise ValueError(f"fixtures, verifier, expected files and reference: {clash}")
        return self

    def rendered(self, folder: str) -> str:
        """The prompt with the agent's folder put in."""
        return self.prompt.replace(FIXTURE_DIR, folder)


class Suite(Noun):
    """Tasks in a fixed order, with the digest that a plan is frozen on."""

    name: str
    path: str
    """As the user named it; no part of the digest."""
    format: Literal["jsonl", "folder"]
    source_digest: str
    """Of the bytes that it was read from: the JSONL file, or all files of the folder."""
    tasks: tuple[Task, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_once(self) -> Self:
        if clash := _clash([t.task_id for t in self.tasks]):
            raise ValueError(f"task ids: {clash}")
        return self

    @cached_property
    def digest(self) -> str:
        """Of everything that decides a verdict: tasks, their files and verifiers; not where they lie."""
        return digest([t.to_json() for t in self.tasks])

    def task(self, task_id: str) -> Task | None:
        """The task of that id."""
        return next((t for t in self.tasks if t.task_id == task_id), None)

    @property
    def canaries(self) -> tuple[Task, ...]:
        """Tasks that prove that the text reaches the agent."""
        return tuple(t for t in self.tasks if t.canary)


class SolutionRuns(Noun):
    """The same solution of a task judged several times: a verifier that answers differently decides by chance."""

    task_id: str
    solution: Literal["empty", "reference"]
    """`empty`: the fixtures as the agent is given them."""
    passed: tuple[bool, ...]
    timed_out: int = Field(default=0, ge=0)
    """How many of the runs ran into the time limit."""
    missing: bool = False
    """The verifier's program does not exist."""
    told: str = ""
    """The end of what the verifier printed in the last run that failed."""


def _clash(paths: Iterable[str]) -> str:
    """Two paths that some file system cannot hold beside each other."""
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.get(folded(path))) is not None:
            return f"{other!r} and {path!r} are one file" + ("" if other == path else " on some systems")
        seen[folded(path)] = path
    for key, path in seen.items():
        parts = key.split("/")
        for i in range(1, len(parts)):
            if (other := seen.get("/".join(parts[:i]))) is not None:
                return f"{other!r} is a file, and {path!r} needs it as a folder"
            # `A/x` and `a/y` are two folders here and one elsewhere
    return _folders_clash(seen)


def _folders_clash(seen: Mapping[str, str]) -> str:
    exact: dict[str, str] = {}
    for key, path in seen.items():
        parts, names = key.split("/"), path.split("/")
        if len(parts) != len(names):
            continue
        for i in range(1, len(parts)):
            folder = "/".join(names[:i])
            if exact.setdefault("/".join(parts[:i]), folder) != folder:
                return f"the folders {exact['/'.join(parts[:i])]!r} and {folder!r} are one on some systems"
    return ""
