"""How long iterations take, seen from the loop that launches them and processes their results."""

from collections import deque


class IterationTimer:
    """Iterations end in the order in which they were launched; one may run while the next is.

    In a busy engine an iteration takes from the end of the one before it to its own: that is the
    gap between two tokens, and has the work of the loop itself in it.
    """

    def __init__(self) -> None:
        self._starts: deque[float | None] = deque()
        self._last_end_s = 0.0
        self._durations_s: list[float] = []

    def launched(self, at_s: float, *, after_idle: bool) -> None:
        self._starts.append(at_s if after_idle else None)

    def ended(self, at_s: float) -> None:
        start_s = self._starts.popleft()
        self._durations_s.append(at_s - (self._last_end_s if start_s is None else start_s))
        self._last_end_s = at_s

    def take(self) -> list[float]:
        """Durations since the last call, in order, seconds."""
        durations_s, self._durations_s = self._durations_s, []
        return durations_s
