"""Moments and days."""

from datetime import datetime, timezone


def utc_day(text):
    """The day in UTC, as YYYY-MM-DD, of a moment in ISO 8601 with an offset."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(timezone.utc).date().isoformat()
