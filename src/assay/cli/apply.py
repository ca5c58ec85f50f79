"""`assay apply` and `assay undo`."""

from __future__ import annotations

from pathlib import Path

import click

from assay import registry
from assay.core.errors import UsageError
from assay.core.events import EventType
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.core.vocabulary import Verb
from assay.ledger.home import Home, find_home
from assay.ledger.projections import histories


@click.command()
@click.argument("name", metavar="STUDY|TRIAL")
@click.option("--yes", is_flag=True, help="Do it; without this only what would change is shown.")
def apply(name: str, yes: bool) -> int:
    """Bring an accepted candidate to the target that its spec names."""
    home = Home(find_home(), create=False)
    with home.writing():
        history, trial = _find(home, name, "accepted")
        decision = trial.decision
        if decision is None or not decision.keeps:
            word = decision.outcome.value if decision else "no Decision yet"
            raise UsageError(f"{trial.id} is {word}: only ACCEPT is applied", next=f"`assay show {trial.id}`")
        if trial.id in history.applied:
            raise UsageError(f"{trial.id} is applied already", next=f"`assay undo {trial.id}` takes it back")
        adapter = registry.adapter(Verb.APPLY, history.study.apply)
        artifact = Path(decision.facts["artifact"]["path"])
        token = history.apply_pending.get(trial.id) or adapter.plan(artifact, decision)
        for change in token["changes"] or ["nothing: the spec says `apply: none`"]:
            click.echo(change)
        if not yes:
            click.echo("nothing was changed; add --yes to do it", err=True)
            return 0
        if trial.id not in history.apply_pending:
            home.ledger.append(
                EventType.APPLY_INTENDED, history.study.id, {"trial": trial.id, "token": dict(token)}
            )
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


def _find(home: Home, name: str, wanted: str) -> tuple[StudyHistory, Trial]:
    """A trial by its id, or the one of a study that is wanted: accepted, or applied."""
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
    fitting = {
        "accepted": [t.id for t in history.trials.values() if t.decision and t.decision.keeps],
        "applied": [*history.applied, *history.apply_pending],
    }[wanted]
    if not fitting:
        raise UsageError(f"{name} has no {wanted} trial", next=f"`assay show {name}`")
    if len(fitting) > 1:
        raise UsageError(f"{name} has {len(fitting)} {wanted} trials: name one", allowed=", ".join(fitting))
    return history, history.trials[fitting[0]]
