"""Values added up in ranges."""

from bisect import bisect_left
from collections.abc import Sequence


class Buckets:
    """How many values there were in each range, and their sum."""

    __slots__ = ("_bounds", "_row")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper ones, ascending, each included in its range; the last range has
        no upper bound."""
        self._bounds = bounds
        self._row: list[float] = [0] * (len(bounds) + 1) + [0.0]

    def add(self, value: float) -> None:
        """Less than nothing, as a clock that was set can make it, counts as nothing."""
        if value > 0:
            self._row[bisect_left(self._bounds, value)] += 1
            self._row[-1] += value
        else:
            self._row[0] += 1

    def row(self) -> list[float]:
        """The count of each range, and at the end the sum."""
        return self._row.copy()
