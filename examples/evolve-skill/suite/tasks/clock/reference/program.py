"""A clock with 24 hours."""


def later(hour, minute, minutes):
    """The time some minutes after hour:minute, as (hour, minute)."""
    total = hour * 60 + minute + minutes
    return total // 60 % 24, total % 60
