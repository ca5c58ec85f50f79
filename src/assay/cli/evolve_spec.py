"""The spec of an evolve study, resolved: text and suite pinned, tasks divided, every path absolute."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay import registry
from assay.core.artifact_text import TextArtifact
from assay.core.errors import SpecError
from assay.core.ports import Component
from assay.core.study import AdapterRef
from assay.core.suite import Suite
from assay.core.vocabulary import Verb
from assay.flows import evolve
from assay.flows._evolve.spec import FEWEST_TO_SPLIT
from assay.flows.evolve import EvolveSpec, SuiteRef
from assay.readers.suites import read_suite
from assay.readers.texts import read_candidate, read_text
from assay.runtime.agents.command import PLACEHOLDERS
from assay.runtime.agents.presets import NAMES

SPEC_DIR = "{spec_dir}"
"""In the commands of agent and proposers: the folder of the spec."""


def resolved(spec: EvolveSpec, base: Path) -> EvolveSpec:
    """The spec with every reference resolved, the text and the suite pinned.

    Raises:
        SpecError: naming the key of what is wrong.
        UnreadableInput: if text or suite cannot be read.
    """
    path = _existing(spec.text.path, base, "text.path")
    text = read_text(path, spec.text.kind, spec.text.name)
    suite_path = _existing(spec.suite.path, base, "suite.path")
    suite = _suite_ref(spec, read_suite(suite_path), suite_path)
    updates: dict[str, Any] = {
        "text": spec.text.model_copy(
            update={"path": str(path), "kind": text.kind, "digest": text.digest, "chars": len(text.text)}
        ),
        "suite": suite,
        "candidates": tuple(
            c.model_copy(update={"path": str(_candidate(c.path, base, f"candidates.{i}", text))})
            for i, c in enumerate(spec.candidates)
        ),
        "agent": _located(spec, base),
        "apply": _apply(spec, text, path, base),
    }
    if spec.known_good is not None:
        updates["known_good"] = str(_existing(spec.known_good, base, "known_good"))
    found = spec.model_copy(update=updates)
    return found.model_copy(update={"search": _search(found, base)})


def components(spec: EvolveSpec) -> list[tuple[str, Component]]:
    """What the study needs on this machine."""
    study = evolve.plan(spec, _source(spec), "check")
    agent = next(s.adapter for s in study.steps if s.name == "preflight")
    assert agent is not None
    found = [("agent", registry.adapter(Verb.EVALUATE, agent).check())]
    if spec.search is not None:
        search = evolve.candidates(spec, _source(spec))[-1].build
        found.append(("search", registry.adapter(Verb.BUILD, search, "search").check()))
    return found


def _source(spec: EvolveSpec) -> Any:
    from assay.core.evidence import Artifact

    return Artifact(path=spec.text.path, digest=spec.text.digest, size_bytes=0)


def _existing(path: str, base: Path, where: str) -> Path:
    found = (base / Path(path).expanduser()).absolute()
    if not found.exists():
        raise SpecError(f"no such file or folder: {found}", where=where, next="correct the path")
    return found


def _candidate(path: str, base: Path, where: str, baseline: TextArtifact) -> Path:
    """The path of a candidate that can be read: it is built only after the preflight was paid for."""
    found = _existing(path, base, where)
    read_candidate(found, baseline)
    return found


def _suite_ref(spec: EvolveSpec, suite: Suite, path: Path) -> SuiteRef:
    parts = evolve.divided(
        suite,
        spec.suite.train_frac,
        spec.suite.select_frac,
        spec.seed,
        FEWEST_TO_SPLIT,
        search=spec.search is not None,
    )
    return spec.suite.model_copy(update={"path": str(path), "digest": suite.digest, **parts._asdict()})


def _located(spec: EvolveSpec, base: Path) -> Any:
    def put(parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(p.replace(SPEC_DIR, str(base)) for p in parts)

    agent = spec.agent
    if agent.preset not in NAMES:
        raise SpecError(
            f"unknown preset {agent.preset!r}", where="agent.preset", allowed=", ".join(sorted(NAMES))
        )
    for part in agent.command:
        _no_slip(part)
    return agent.model_copy(
        update={"command": put(agent.command), "version_command": put(agent.version_command)}
    )


def _no_slip(part: str) -> None:
    """Refuse `{promptfile}`, which would reach the agent as it stands; other braces are the agent's own business."""
    known = (*PLACEHOLDERS, SPEC_DIR.strip("{}"))
    for name in re.findall(r"\{([A-Za-z_-]+)\}", part):
        near = difflib.get_close_matches(name, known, 1, 0.8)
        if name not in known and near:
            raise SpecError(
                f"there is no placeholder {{{name}}}", where="agent.command", next=f"{{{near[0]}}} is one"
            )


def _apply(spec: EvolveSpec, text: TextArtifact, path: Path, base: Path) -> AdapterRef:
    if spec.apply.kind != "text":
        return registry.resolved(Verb.APPLY, spec.apply, base, "apply")
    options = {
        "path": str(path),
        "text_kind": text.kind.value,
        "name": spec.text.name,
        "expects": text.digest,
        **spec.apply.options,
    }
    return registry.resolved(Verb.APPLY, AdapterRef(kind="text", options=options), base, "apply")


def _search(spec: EvolveSpec, base: Path) -> AdapterRef | None:
    """The search with its paths absolute; the flow adds what it needs to know of suite and agent."""
    if spec.search is None:
        return None
    options = {k: _placed(v, base) for k, v in spec.search.options.items()}
    spec = spec.model_copy(update={"search": AdapterRef(kind=spec.search.kind, options=options)})
    assert spec.search is not None
    whole = evolve.candidates(spec, _source(spec))[-1].build
    made = registry.resolved(Verb.BUILD, whole, base, "search")
    given = {k: made.options[k] for k in (*spec.search.options, "max_runs") if k in made.options}
    return AdapterRef(kind=spec.search.kind, options=given)


def _placed(value: Any, base: Path) -> Any:
    """Options with the folder of the spec put in."""
    if isinstance(value, str):
        return value.replace(SPEC_DIR, str(base))
    if isinstance(value, Mapping):
        return {k: _placed(v, base) for k, v in value.items()}
    return [_placed(v, base) for v in value] if isinstance(value, list | tuple) else value
