"""How much work keeps coming."""

import math

_MEMORY_S = 300.0
"""Of work that arrived so long ago, 1 / e counts."""


class Arrivals:
    """An exponential average of the work that arrives per second, from nothing at the start."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._as_of_s = -math.inf

    def add(self, work: float, now_s: float) -> None:
        """So many prefill-equivalent tokens have arrived."""
        self._per_s = self.per_s(now_s) + work / _MEMORY_S
        self._as_of_s = now_s

    def per_s(self, now_s: float) -> float:
        """Prefill-equivalent tokens per second, as of now; a clock set back changes nothing."""
        return self._per_s * math.exp(-max(0.0, now_s - self._as_of_s) / _MEMORY_S)
