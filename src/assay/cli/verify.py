"""`assay verify`: anyone can derive the verdict again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from assay import registry
from assay.cli.study import find_study
from assay.core.canon import short
from assay.core.errors import LedgerBroken, UnreadableInput
from assay.core.history import StudyHistory
from assay.ledger.bundle import Bundle
from assay.ledger.home import Home, find_home
from assay.ledger.verify import Check, verify_chain, verify_study
from assay.runtime.files import artifact, digest_file, files_of


@click.command()
@click.argument("what", metavar="STUDY|BUNDLE.zip")
@click.option("--json", "as_json", is_flag=True, help="Print every check as JSON.")
def verify(what: str, as_json: bool) -> int:
    """Walk the chain, hash every file again, ask every gate again, fold every Decision again.

    Exit code 0 if all of it holds, 7 at the first broken link, which is named.
    """
    checks = list(_bundle(Path(what)) if Path(what).is_file() else _ledger(what))
    broken = next((c for c in checks if c.ok is False), None)
    if as_json:
        rows = [{"what": c.what, "where": c.where, "ok": c.ok, "detail": c.detail} for c in checks]
        result = {"schema": "verification/1", "ok": broken is None, "checks": rows}
        click.echo(json.dumps(result, indent=2))
    else:
        _print(checks)
    if broken is not None:
        raise LedgerBroken(broken.detail, where=f"{broken.what} {broken.where}")
    return 0


def _ledger(study: str) -> Iterator[Check]:
    home = Home(find_home(), create=False)
    walked = list(verify_chain(home.ledger.read(), home.ledger.appended()))
    yield from walked
    if all(c.ok for c in walked):  # what is read from a broken chain says nothing
        history = find_study(home, study)
        yield from verify_study(history, home.store, registry.gate, artifact)
        yield from _published(history)


def _published(history: StudyHistory) -> Iterator[Check]:
    """What was released is what was judged, file by file; a person may have put others beside them, or moved all."""
    for trial, token in history.applied.items():
        if token.get("kind") != "directory":
            continue
        built = history.trials[trial].artifact(history.study.models)
        folder = Path(token["path"])
        where = f"{trial}: {folder}"
        if built is None or not folder.exists():
            yield Check("published", where, ok=None, detail="is not there any more")
            continue
        judged = Path(built.path)
        try:
            names = (
                [f.relative_to(judged.resolve()) for f in files_of(judged)] if judged.is_dir() else [Path()]
            )
            pairs = [(judged / n, folder / (n if judged.is_dir() else judged.name)) for n in names]
            changed = [p.name for j, p in pairs if not p.is_file() or digest_file(p) != digest_file(j)]
        except UnreadableInput as error:
            yield Check("published", where, ok=False, detail=error.what)
            continue
        detail = f"not what was judged: {', '.join(changed[:3])}" if changed else ""
        yield Check("published", where, ok=not changed, detail=detail)


def _bundle(path: Path) -> Iterator[Check]:
    bundle = Bundle(path)
    walked = [*verify_chain(bundle.links()), *bundle.sealed()]
    yield from walked
    if all(c.ok for c in walked):
        yield from verify_study(bundle.history(), bundle, registry.gate, None)


def _print(checks: list[Check]) -> None:
    for check in checks:
        if check.what in {"verdict", "decision", "chain", "report", "published"} or check.ok is False:
            mark = {True: "✓", False: "✗", None: "·"}[check.ok]
            click.echo(f"{mark} {check.what:<9} {check.where}  {_shortened(check.detail)}".rstrip())
    held = sum(c.ok is True for c in checks)
    open_ = sum(c.ok is None for c in checks)
    files = sum(c.what in {"artifact", "document"} and c.ok is True for c in checks)
    click.echo(
        f"{held} checks hold ({files} files and documents hashed again), {open_} could not be made here"
    )


def _shortened(text: str) -> str:
    return " ".join(short(word) if word.startswith("sha256:") else word for word in text.split())
