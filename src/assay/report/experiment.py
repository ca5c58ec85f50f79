"""The HTML report of a training experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.core.experiment import Experiment
from assay.core.verdict import Verdict
from assay.live.watch import Story
from assay.report._view.training.page import build_page
from assay.report.html import filled
from assay.runtime.files import write_atomic


def render(
    experiment: Experiment,
    story: Story,
    verdict: Verdict,
    family: Sequence[Experiment] = (),
    project: Path | None = None,
) -> str:
    """The report of an experiment in whatever state it is; the same files give the same page.

    Args:
        experiment: as `readers.training` found it.
        story: the fold of the same files, for the curves.
        verdict: of gate `training` over it.
        family: all experiments of its root, for the lineage.
        project: folder that paths are shown relative to, so that a page may be handed on.
    """
    return filled("experiment.html.j2", project, page=build_page(experiment, story, verdict, family))


def write_report(
    out: Path,
    experiment: Experiment,
    story: Story,
    verdict: Verdict,
    family: Sequence[Experiment] = (),
    project: Path | None = None,
) -> Path:
    """Write the report.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    text = render(experiment, story, verdict, family, project)
    write_atomic(out, text.encode("utf-8"))
    return out
