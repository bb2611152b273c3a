"""When the tokens of an interactive request may be shown."""

from typing import NamedTuple


class Release(NamedTuple):
    """Token n no earlier than `first_s + (n - 1) * pace_s`, nor `pace_s` after the one before it.

    `pace_s` 0 shows everything immediately. `first_s` is on the policy's clock; on the way to the
    worker it becomes monotonic time.
    """

    first_s: float
    pace_s: float
