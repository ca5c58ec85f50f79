"""What the report of a tuning study shows, as plain typed data: a record in, frozen dataclasses out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.recommendation import Change, Recommendation
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import Provenance
from assay.report._view.first_screen import Headline
from assay.report._view.text import Digest, digest_of, moment, one_line
from assay.report._view.tuning.answers import Answer, answers, answers_text
from assay.report._view.tuning.cells import CellRow, FailureView, failures, row_of
from assay.report._view.tuning.front import Front, front
from assay.report._view.tuning.headline import headline
from assay.report._view.tuning.map import Map, maps, named
from assay.report._view.tuning.noise import Noise, noise
from assay.report._view.tuning.progression import Progression, progression
from assay.report._view.tuning.replicates import Strips, strips
from assay.report._view.tuning.setting import asked, basis, machine_of

CELLS_LIMIT = 400


@dataclass(frozen=True)
class TuningPage:
    """The whole report."""

    title: str
    study: str
    when: str
    headline: Headline
    alerts: tuple[tuple[str, str], ...]
    """Tone and text."""
    maps: tuple[Map, ...]
    progression: Progression | None
    front: Front | None
    strips: Strips | None
    noise: Noise | None
    answers: tuple[Answer, ...]
    answers_text: str
    failures: tuple[FailureView, ...]
    cells: tuple[CellRow, ...]
    more_cells: str
    alternates: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    basis: tuple[tuple[str, str], ...]
    hashes: tuple[tuple[str, Digest], ...]
    document: str


def build_page(record: TuningRecord, stale: Sequence[Change] = ()) -> TuningPage:
    """The page of a tuning study in whatever state it is.

    Args:
        record: what was tried.
        stale: what changed since then.
    """
    found = _estimated(record)
    record = record.model_copy(update={"recommendation": found})
    names = named(record.cells)
    first = headline(record)
    return TuningPage(
        title=f"{first.mark.word}: {found.run_id}",
        study=found.run_id,
        when=moment(found.started_at),
        headline=first,
        alerts=_alerts(record, stale),
        maps=maps(record),
        progression=progression(record, names),
        front=front(record, names),
        strips=strips(record, names),
        noise=noise(record, names),
        answers=answers(found, first.mark),
        answers_text=answers_text(found),
        failures=failures(record, names),
        cells=tuple(row_of(record, c.name, names) for c in record.cells[:CELLS_LIMIT]),
        more_cells=f"and {len(record.cells) - CELLS_LIMIT} more" if len(record.cells) > CELLS_LIMIT else "",
        alternates=tuple(one_line(a, 120) for a in found.alternates),
        asked=asked(found),
        machine=machine_of(found),
        basis=basis(found),
        hashes=tuple(
            (k, digest_of(v))
            for k, v in (("recipe", found.recipe_hash), ("fingerprint", found.fingerprint))
            if v
        ),
        document=json.dumps(found.to_json(), indent=2, ensure_ascii=False),
    )


def _estimated(record: TuningRecord) -> Recommendation:
    """The recommendation with the estimate of its cell, where it tells a median alone beside the interval."""
    found = record.recommendation
    kept = next((c for c in record.cells if c.kept and c.tps is not None), None)
    if found.recommendation is None or found.recommendation.tps is not None or kept is None:
        return found
    return found.model_copy(
        update={"recommendation": found.recommendation.model_copy(update={"tps": kept.tps})}
    )


def _alerts(record: TuningRecord, stale: Sequence[Change]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if record.provenance is Provenance.SELF_REPORTED:
        found.append(("odd", "Imported: another tool said this of itself, and nothing was measured here."))
    found += [("open", f"Stale: {change.text}.") for change in stale]
    found += [("open", one_line(remark)) for remark in record.remarks]
    return tuple(found)
