"""Which values of attributes that come from outside have series of their own."""

import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from niyama.telemetry.instrument import Instrument

Values = tuple[str, ...]
"""Of an instrument's attributes, in their order."""
Place = tuple[str, str]
"""An attribute that is not bounded, and one of its values."""

OTHER = "_other"
"""The attribute value that all those share who have no series of their own. No `Name` begins with
an underscore, so it is nobody's own."""
IDLE_S = 3600.0
"""A value for which nothing was counted for so long makes room for another; it is looked for such
values as often, and only while there is no room."""


class Counted(Protocol):
    """Counters by the values of an instrument's attributes."""

    instrument: Instrument

    def observed(self) -> Iterable[tuple[float, Values]]:
        """Their totals."""

    def forget(self, values: Values) -> None:
        """Drop the counter with these values."""


class Admission:
    """Keeps attributes whose values come from outside from making any number of series.

    Whoever sends jobs can invent names. Those that the operator names always have series; of
    others the first, until they have been idle. A series that is dropped ends, and its total is not
    added to OTHER, where it would look like a burst; if its value comes back, it begins at 0 with a
    start of its own. That is what backends know from processes that restart.
    """

    def __init__(
        self,
        limit: int,
        named: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`named` have series beyond the `limit`. `clock` gives monotonic seconds."""
        self._limit = limit
        self._named = frozenset(named)
        self._clock = clock
        self._admitted: dict[str, dict[str, int]] = {}
        """By attribute and value, since when in epoch nanoseconds, for those that are not named."""
        self._counted: list[Counted] = []
        self._looked_s = -math.inf
        self._totals: dict[Place, float] = {}
        """As of then."""

    def add(self, counted: Counted) -> None:
        """Forget what is idle there, too."""
        if counted.instrument.is_open:
            self._counted.append(counted)

    def bounded(self, instrument: Instrument, values: Values) -> Values:
        """`values`, with OTHER in place of those that have no series of their own."""
        pairs = zip(instrument.attributes, values, strict=True)
        return tuple(
            value if attribute.bounded or self._admits(attribute.name, value) else OTHER
            for attribute, value in pairs
        )

    def since_ns(self, instrument: Instrument, values: Values, start_ns: int) -> int:
        """When this series began, in epoch nanoseconds: `start_ns`, or when it was admitted."""
        names = (attribute.name for attribute in instrument.attributes)
        pairs = zip(names, values, strict=True)
        return max((self._admitted.get(name, {}).get(value, start_ns) for name, value in pairs))

    def _admits(self, name: str, value: str) -> bool:
        admitted = self._admitted.setdefault(name, {})
        if value in self._named or value in admitted:
            return True
        if len(admitted) >= self._limit:
            self._forget_idle()
        if len(admitted) >= self._limit:
            return False
        admitted[value] = time.time_ns()
        return True

    def _forget_idle(self) -> None:
        """Those whose counters are as they were when this was last done, which is not often."""
        now_s = self._clock()
        if now_s < self._looked_s + IDLE_S:
            return
        self._looked_s, before = now_s, self._totals
        self._totals = self._current_totals()
        idle = {place for place, total in self._totals.items() if total == before.get(place)}
        for name, value in idle:
            self._admitted.get(name, {}).pop(value, None)
        for counted in self._counted:
            for _, values in counted.observed():
                places = _from_outside(counted.instrument, values)
                if any(place in idle and place[1] not in self._named for place in places):
                    counted.forget(values)

    def _current_totals(self) -> dict[Place, float]:
        totals: dict[Place, float] = {}
        for counted in self._counted:
            for total, values in counted.observed():
                for place in _from_outside(counted.instrument, values):
                    totals[place] = totals.get(place, 0) + total
        return totals


def _from_outside(instrument: Instrument, values: Values) -> list[Place]:
    pairs = zip(instrument.attributes, values, strict=True)
    return [
        (attribute.name, value)
        for attribute, value in pairs
        if not attribute.bounded and value != OTHER
    ]
