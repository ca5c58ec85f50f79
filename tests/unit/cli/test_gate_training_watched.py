"""`assay gate training --require-watched`: a training that nobody watched does not pass where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

import assay
from assay.cli.gate import gate


def test_a_training_without_a_checker_lacks_its_watch(tmp_path: Path) -> None:
    """Without the option that it was not watched is only told; with it the item is missing."""
    run = assay.experiment("one", root=tmp_path)
    run.log({"loss": 1.0})
    run.finish()
    asked = ["training", str(run.folder), "--checkpoint", "none", "--no-hypothesis"]
    plain = json.loads(CliRunner().invoke(gate, asked).stdout)
    strict = json.loads(CliRunner().invoke(gate, [*asked, "--require-watched"]).stdout)
    assert plain["items"].get("alerts") != "missing"
    assert strict["items"]["alerts"] == "missing"
