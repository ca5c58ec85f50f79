"""What is in order passes: no gate may refuse what toolkits rightly write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from good_cases import REAL, SYNTHETIC

from assay.core.checkpoint import Checkpoint
from assay.core.verdict import Verdict
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.readers.checkpoint import read_checkpoint


def judge(source: Checkpoint, candidate: Checkpoint, policy: Any) -> Verdict:
    """The verdict under a policy."""
    gate = CheckpointGate(CheckpointPolicy(**policy))
    return gate.judge({"source.checkpoint": source, "candidate.checkpoint": candidate})


@pytest.mark.parametrize("name", REAL)
def test_what_a_toolkit_wrote_passes(real: Path, name: str) -> None:
    """Scheme, method and symmetry as the toolkit meant them; the recipe is kept; the codes reproduce the source."""
    case = REAL[name]
    candidate = read_checkpoint(real / name, source=real / case.source)
    taken = [m for m in candidate.modules if m.declared or (case.method == "gguf" and m.kind == "linear")]
    assert candidate.quant_method == case.method
    assert {m.scheme for m in taken} == (set(case.scheme.split(" and ")) if case.method else set())
    assert [m.problems for m in candidate.modules if m.problems] == []
    assert bool(candidate.facts["asymmetric"]) == case.asymmetric
    policy = {"recipe": case.recipe, "require_fidelity": case.method is not None}
    verdict = judge(read_checkpoint(real / case.source, "source"), candidate, policy)
    assert verdict.passed, [r.text for r in verdict.reasons if not r.ok]


@pytest.mark.parametrize("name", REAL)
def test_a_declaration_is_kept(real: Path, name: str) -> None:
    """Without a recipe a quantized checkpoint is judged by its own declaration, and passes."""
    if REAL[name].method is None:
        pytest.skip("nothing is quantized")
    candidate = read_checkpoint(real / name)
    base = read_checkpoint(real / REAL[name].source, "source")
    verdict = judge(base, candidate, {"recipe": "from-declaration"})
    assert verdict.passed, [r.text for r in verdict.reasons if not r.ok]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_header_true_checkpoint_passes(tmp_path: Path, name: str) -> None:
    """Each format, each architecture and each honest renaming."""
    case = SYNTHETIC[name]
    source = read_checkpoint(case.source().write(tmp_path / "source"), "source", digest_limit_bytes=0)
    candidate = read_checkpoint(case.candidate(tmp_path / "candidate"), digest_limit_bytes=0)
    verdict = judge(source, candidate, case.policy)
    assert verdict.passed, [r.text for r in verdict.reasons if not r.ok]
    if case.scheme:
        linears = [m for m in candidate.modules if m.kind == "linear" and m.weight_bits < 16]
        assert {m.scheme for m in linears} == {case.scheme}
