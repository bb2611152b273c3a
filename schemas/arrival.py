"""When a job arrived: the timestamp of its record, which its producer may set to anything."""

MISSING_MS = 0
"""In the ledger, the arrival of a record without a timestamp: 1970."""
LATEST_MS = 253_370_764_800_000
"""The latest arrival that is kept: the first moment of 9999. Every deadline that counts from it can
still be expressed, stored and shown."""


def arrival_ms(timestamp_ms: int, read_at_ms: int | None = None) -> int:
    """The arrival, in UTC epoch milliseconds, of the job in a record with this timestamp.

    Its worker reads it at `read_at_ms`: a timestamp that is missing (negative) or later
    counts as that moment, because a deadline in the far future would leave the job waiting. The
    ledger gives no such moment, because its rows must not depend on when they are written: it
    keeps what the record says, as far as that can be stored.
    """
    if timestamp_ms < 0:
        return MISSING_MS if read_at_ms is None else read_at_ms
    return min(timestamp_ms, LATEST_MS if read_at_ms is None else read_at_ms)
