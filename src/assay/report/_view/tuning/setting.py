"""What a recommendation rests on: what was asked for, the machine, and what it was resolved to."""

from __future__ import annotations

from assay.core.recommendation import Recommendation
from assay.report._view.text import one_line, percent


def asked(found: Recommendation) -> tuple[tuple[str, str], ...]:
    """What was asked for."""
    inputs = found.inputs
    rows = [
        ("candidates, in order", ", ".join(one_line(m, 120) for m in inputs.candidate_models)),
        ("context", f"{inputs.target_context:,} tokens"),
        ("service levels", ", ".join(inputs.service_levels)),
        ("objective", inputs.objective),
        ("rule", inputs.policy),
        ("band of the point rule", percent(inputs.tps_tie_epsilon)),
        ("ended", found.exit_reason.value),
    ]
    return tuple((k, v) for k, v in rows if v)


def machine_of(found: Recommendation) -> tuple[tuple[str, str], ...]:
    """What it was measured on."""
    machine = found.machine
    rows = [
        ("chip", machine.chip),
        ("cores", str(machine.cpus) if machine.cpus else ""),
        ("memory", f"{machine.ram_gb} GiB"),
        ("system", machine.os_version),
        ("driver", machine.driver),
        ("engine", machine.binary_version),
    ]
    return tuple((k, one_line(v, 120)) for k, v in rows if v)


def basis(found: Recommendation) -> tuple[tuple[str, str], ...]:
    """What the recommendation holds for."""
    if found.basis is None:
        return ()
    values = found.basis.to_json()
    return tuple(
        (name.replace("_", " "), one_line(" ".join(v) if isinstance(v, list) else v, 160))
        for name, v in values.items()
        if v and not isinstance(v, dict)
    )
