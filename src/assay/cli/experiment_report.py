"""`assay report EXPERIMENT`: read the files once, ask the gate, write the page."""

from __future__ import annotations

from pathlib import Path


def find(name: str) -> Path | None:
    """The experiment's folder; None if no experiment is called so."""
    from assay.cli.experiment import root_of
    from assay.core.errors import UsageError
    from assay.readers.training import folder_of

    root = root_of(None)
    if not root.is_dir() and not Path(name).is_dir():
        return None
    try:
        return folder_of(root, name)
    except UsageError:
        if name.startswith("exp-"):
            raise
        return None


def write(folder: Path, out: Path | None) -> Path:
    """Write the report of an experiment; `report.html` in its folder if no place is named.

    Raises:
        UnreadableInput: if the folder holds no experiment.
        ComponentFailed, UsageError: if the file cannot be written.
    """
    from assay.gates.training import ROLE, TrainingGate
    from assay.live.watched import Watched
    from assay.readers.training import read_any, read_experiments
    from assay.report.experiment import write_report

    experiment = read_any(folder, digests=True)
    watched = Watched(folder)
    while watched.read():
        pass
    verdict = TrainingGate().judge({ROLE: experiment})
    family = read_experiments(folder.parent)
    project = folder.absolute().parents[2] if len(folder.absolute().parents) > 2 else None
    return write_report(out or folder / "report.html", experiment, watched.story, verdict, family, project)
