"""lm-eval for one batch of items after another, in one process: started as ``PYTHON lm_eval_batches.py FOLDER``.

For each ``FOLDER/batch-K.json`` (K = 1, 2, ...; a list of arguments of ``lm-eval run``) it runs lm-eval's own
command line and writes ``FOLDER/batch-K.done``. A batch that fails ends the process with lm-eval's own words in the log.
It ends by itself when the process that started it is gone.

Standard library and lm-eval only: the interpreter that runs this has no `assay`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

POLL_S = 0.05


def main(folder: Path) -> None:
    """Wait for batches and run them, until whoever asks is gone."""
    asked_by = os.getppid()
    from lm_eval._cli import HarnessCLI  # noqa: PLC0415 - seconds, told in the log if it fails
    from lm_eval.utils import setup_logging  # noqa: PLC0415

    setup_logging()
    _index_tasks_once()
    number = 1
    while os.getppid() == asked_by:
        batch = folder / f"batch-{number}.json"
        if not batch.exists():
            time.sleep(POLL_S)
            continue
        sys.argv = ["lm-eval", "run", *json.loads(batch.read_text(encoding="utf-8"))]
        harness = HarnessCLI()
        harness.execute(harness.parse_args())
        sys.stdout.flush()
        batch.with_suffix(".done").touch()
        number += 1


def _index_tasks_once() -> None:
    """Reading the thousands of task files that come with lm-eval takes 5 s, and they do not change meanwhile."""
    from lm_eval import tasks  # noqa: PLC0415

    make = tasks.TaskManager
    known: dict[str, Any] = {}

    def remembered(*args: Any, **options: Any) -> Any:
        key = repr((args, sorted(options.items())))
        if key not in known:
            known[key] = make(*args, **options)
        return known[key]

    tasks.TaskManager = remembered


if __name__ == "__main__":
    main(Path(sys.argv[1]))
