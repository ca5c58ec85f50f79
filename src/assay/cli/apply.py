"""`assay apply` and `assay undo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from assay import registry
from assay.core.decision import Decision
from assay.core.errors import UsageError
from assay.core.events import EventType
from assay.core.history import StudyHistory
from assay.core.study import AdapterRef
from assay.core.trial import Trial
from assay.core.vocabulary import Outcome, Verb
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories
from assay.ledger.tuning_records import JOB, of_study

CHANGED = "changed"
"""The word that lets a target pass which is not what it was."""
UNRESOLVED = "unresolved"
"""The word that lets a result through which the evidence did not settle."""


@click.command()
@click.argument("name", metavar="STUDY|TRIAL")
@click.option("--yes", is_flag=True, help="Do it; without this only what would change is shown.")
@click.option(
    "--force",
    "forces",
    multiple=True,
    metavar="WORD",
    help="Do it although, for a tuning study: `unresolved`, `changed`, or another word of apply.force.",
)
@click.option("--reason", help="Why it is forced; recorded in the ledger.")
def apply(name: str, yes: bool, forces: tuple[str, ...], reason: str | None) -> int:
    """Bring an accepted candidate to the target that its spec names."""
    if forces and not reason:
        raise UsageError("a result is forced for a reason, which is recorded", next="add --reason TEXT")
    home = Home(find_home(), create=False)
    with home.writing():
        history, trial = _find(home, name, "unresolved" if UNRESOLVED in forces else "accepted")
        decision = trial.decision
        if decision is None or not (decision.keeps or (UNRESOLVED in forces and _unresolved(history, trial))):
            raise _not_kept(history, trial)
        if trial.id in history.applied:
            raise UsageError(f"{trial.id} is applied already", next=f"`assay undo {trial.id}` takes it back")
        adapter = registry.adapter(Verb.APPLY, _forced(history.study.apply, forces))
        artifact = Path(decision.facts["artifact"]["path"])
        token, again = _token(adapter, artifact, decision, history.apply_pending.get(trial.id), forces)
        for warning in _stale(home, history):
            click.echo(f"stale: {warning}", err=True)
        for change in token["changes"] or ["nothing: the spec says `apply: none`"]:
            click.echo(change)
        if not yes:
            click.echo("nothing was changed; add --yes to do it", err=True)
            return 0
        if not again:
            data: dict[str, Any] = {"trial": trial.id, "token": dict(token)}
            if forces:
                data |= {"forced": sorted(forces), "reason": reason, "although": decision.sentence}
            home.ledger.append(EventType.APPLY_INTENDED, history.study.id, data)
        adapter.apply(artifact, decision, token)
        home.ledger.append(EventType.APPLY_DONE, history.study.id, {"trial": trial.id})
    return 0


@click.command()
@click.argument("name", metavar="STUDY|TRIAL")
def undo(name: str) -> int:
    """Take an application back: the target is as it was before."""
    home = Home(find_home(), create=False)
    with home.writing():
        history, trial = _find(home, name, "applied")
        token = (
            history.applied.get(trial.id)
            or history.apply_pending.get(trial.id)
            or history.undo_pending.get(trial.id)
        )
        if token is None:
            raise UsageError(f"{trial.id} is not applied", next="`assay ls`")
        if trial.id not in history.undo_pending:
            home.ledger.append(
                EventType.UNDO_INTENDED, history.study.id, {"trial": trial.id, "token": dict(token)}
            )
        registry.adapter(Verb.APPLY, history.study.apply).undo(token)
        home.ledger.append(EventType.UNDO_DONE, history.study.id, {"trial": trial.id})
        for change in token["changes"]:
            click.echo(f"undone: {change}")
    return 0


def _token(
    adapter: Any,
    artifact: Path,
    decision: Decision,
    pending: Mapping[str, Any] | None,
    forces: tuple[str, ...],
) -> tuple[Mapping[str, Any], bool]:
    """What will be done, and whether that stands in the ledger already, of an application that did not get through.

    That one goes on as it was planned, unless somebody changed the target meanwhile and `changed` lets that pass.
    """
    if pending is None:
        return adapter.plan(artifact, decision), False
    if CHANGED in forces:
        fresh = adapter.plan(artifact, decision)
        if fresh.get("before") not in (pending.get("before"), pending.get("after")):
            return fresh, False
    return pending, True


def _stale(home: Home, history: StudyHistory) -> list[str]:
    """What a recommendation rested on and is not there any more."""
    if history.study.job != JOB:
        return []
    from assay.cli.staleness import stale

    return [change.text for change in stale(history, of_study(history, home.store))]


def _unresolved(history: StudyHistory, trial: Trial) -> bool:
    """Whether it is the answer of a tuning study that could not be settled."""
    answers = history.study.answers and trial.candidate.intent.get("phase") == history.study.answers
    return bool(answers and trial.decision and trial.decision.outcome is Outcome.INCONCLUSIVE)


def _not_kept(history: StudyHistory, trial: Trial) -> UsageError:
    word = trial.decision.outcome.value if trial.decision else "no Decision yet"
    ways = f"`assay show {trial.id}`"
    if _unresolved(history, trial):
        ways += f"; `assay apply {trial.id} --force {UNRESOLVED} --reason TEXT` does it all the same"
    return UsageError(f"{trial.id} is {word}: only ACCEPT is applied", next=ways)


def _forced(ref: AdapterRef, forces: tuple[str, ...]) -> AdapterRef:
    """The apply adapter with what a person forces beside what the spec forces.

    Raises:
        UsageError: if this kind of application knows no such word.
    """
    if not forces:
        return ref
    if "force" not in type(registry.options(Verb.APPLY, ref)).model_fields:
        raise UsageError(f"`apply: {ref.kind}` can be forced to nothing", where="--force")
    words = dict.fromkeys([*ref.options.get("force", ()), *forces])
    made = ref.model_copy(update={"options": {**ref.options, "force": list(words)}})
    registry.options(Verb.APPLY, made, "--force")
    return made


def _find(home: Home, name: str, wanted: str) -> tuple[StudyHistory, Trial]:
    """A trial by its id, or the one of a study that is wanted: accepted, accepted or unresolved, or applied."""
    known = histories(home.ledger.read())
    for history in known.values():
        if name in history.trials:
            return history, history.trials[name]
    if name not in known:
        ids = ", ".join(list(known)[-5:]) or "none"
        raise UsageError(
            f"no study or trial {name!r}", where=str(home.folder), allowed=ids, next="`assay ls`"
        )
    history = known[name]
    trials = list(history.trials.values())
    accepted = [t.id for t in trials if t.decision and t.decision.keeps]
    fitting = {
        "accepted": accepted,
        "unresolved": accepted or [t.id for t in trials if _unresolved(history, t)],
        "applied": [*history.applied, *history.apply_pending],
    }[wanted]
    if not fitting:
        if wanted == "accepted" and (held := [t for t in trials if _unresolved(history, t)]):
            raise _not_kept(history, held[-1])
        raise UsageError(f"{name} has no {wanted} trial", next=f"`assay show {name}`")
    if len(fitting) > 1:
        raise UsageError(f"{name} has {len(fitting)} {wanted} trials: name one", allowed=", ".join(fitting))
    return history, history.trials[fitting[0]]
