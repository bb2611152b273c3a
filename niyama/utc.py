"""From numbers that others chose to times of day."""

from datetime import UTC, datetime


def utc(epoch_s: float) -> datetime | None:
    """The time in UTC; None where a datetime cannot express it, as after the year 9999."""
    try:
        return datetime.fromtimestamp(epoch_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None
