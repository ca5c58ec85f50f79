"""How an amount of bytes is said to a person: the same on the terminal, in reports, plans and errors. Pure."""

from __future__ import annotations


def size(count: float | None) -> str:
    """Bytes with three digits and a decimal unit, 1 kB = 1000 B; a dash where it is not known."""
    if count is None:
        return "-"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000.0, larger
    digits = 0 if unit == "B" or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"
