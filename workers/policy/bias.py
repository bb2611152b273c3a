"""How far measured iterations are from what a latency model predicted."""

import bisect
from collections import deque
from collections.abc import Sequence

from workers.latency.model import LatencyModel, Regime

ENOUGH = 16
"""Iterations of a kind after which those of other kinds no longer count for it."""
_SAME = 0.002
"""Biases that differ by less, as a share, make no other model."""


class Ratios:
    """The newest of a stream of ratios, in order of size."""

    def __init__(self, window: int) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._window = window

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, ratio: float) -> None:
        self._recent.append(ratio)
        bisect.insort(self._sorted, ratio)
        if len(self._recent) > self._window:
            oldest = self._recent.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]

    def quantile(self, share: float) -> float:
        """The least ratio that more than `share` of them do not exceed; 1 without any."""
        if not self._sorted:
            return 1.0
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def typical(self, expected: float) -> float:
        """Their median, and the fewer there are, the nearer to what is expected."""
        median = self.quantile(0.5)
        if len(self) >= ENOUGH:
            return median
        known = len(self) / ENOUGH
        return float(median**known * expected ** (1 - known))


class Corrected:
    """A model with a bias for each regime, made anew when one of these has changed."""

    def __init__(self, base: LatencyModel) -> None:
        self._base = base
        self.model = base
        self.biases: Sequence[float] = (1.0,) * len(Regime)
        """Those in the model, by regime."""

    def by(self, biases: Sequence[float]) -> LatencyModel:
        pairs = zip(self.biases, biases, strict=True)
        if any(abs(new - old) > _SAME * old for old, new in pairs):
            self.biases = biases
            self.model = self._base.corrected(*biases)
        return self.model
