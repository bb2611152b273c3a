"""Keeping the latency model honest while it runs.

The model is multiplied by the median of actual/predicted over recent iterations, so that a model
that is wrong by a factor costs nothing once the window has seen it; what remains is spread, and
the margin is a high quantile of it.
"""

import bisect
from collections import deque

from workers.latency.model import LatencyModel

_FIRST_MARGIN = 1.2
_MIN_MARGIN = 1.02


class Calibration:
    def __init__(self, model: LatencyModel, *, window: int = 256, correct: bool = True) -> None:
        """`window` iterations are remembered; without `correct` the bias stays 1."""
        self.model = model
        self.bias = 1.0
        """Actual / predicted of the unscaled model, typical of recent iterations."""
        self._correct = correct
        self._median = 1.0
        self._window = window
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def observe(self, predicted_s: float, actual_s: float) -> None:
        """One iteration: `predicted_s` by the unscaled model, and what it took."""
        if predicted_s <= 0:
            return
        ratio = actual_s / predicted_s
        self._recent.append(ratio)
        bisect.insort(self._sorted, ratio)
        if len(self._recent) > self._window:
            oldest = self._recent.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]
        self._median = self._sorted[len(self._sorted) // 2]
        if self._correct:
            self.bias = self._median

    def margin(self, quantile: float) -> float:
        """Actual over corrected prediction that a share `quantile` of iterations stays below."""
        if not self._sorted:
            return _FIRST_MARGIN
        index = min(len(self._sorted) - 1, int(quantile * len(self._sorted)))
        return max(_MIN_MARGIN, self._sorted[index] / self._median)
