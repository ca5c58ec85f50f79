"""The one error of this package.

ValueError
└── StatsError    an argument cannot be used; says which one, what is allowed and what was given
"""

from __future__ import annotations


class StatsError(ValueError):
    """An argument of a statistical function is unusable.

    Args:
        argument: Name of the argument as it stands in the function's signature.
        allowed: What the argument may be.
        given: What was passed.
    """

    argument: str
    """Name of the offending argument."""

    def __init__(self, argument: str, allowed: str, given: object) -> None:
        self.argument = argument
        text = repr(given)
        shown = text if len(text) <= 60 else text[:57] + "..."
        super().__init__(f"{argument}: must be {allowed}, got {shown}")
