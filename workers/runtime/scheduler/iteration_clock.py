"""The time by which iterations are planned: the first rank's, and what iterations take."""

from collections.abc import Sequence
from typing import Protocol

from workers.runtime.scheduler.iteration_timer import IterationTimer


class Clock(Protocol):
    """UTC epoch seconds; `workers.runtime.scheduler.ranks.SharedClock`."""

    def own_s(self) -> float:
        """This rank's own time, for measurements."""

    def share(self, durations_s: Sequence[float]) -> tuple[float, list[float]]:
        """The first rank's time and durations. Every rank must ask at the same points."""


class IterationClock:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer = IterationTimer()
        self._busy_until_s = 0.0
        self.now_s = self.shared_s()
        """The time that all ranks agree on, as of the last arrival or plan."""

    def tick(self) -> None:
        self.now_s = self.shared_s()

    def shared_s(self) -> float:
        """The first rank's time at this moment; every rank must ask."""
        return self._clock.share(())[0]

    def synchronize(self) -> list[float]:
        """Tick, and take the durations of iterations that ended since the last call, in order."""
        self.now_s, durations_s = self._clock.share(self._timer.take())
        return durations_s

    def start_s(self, *, in_flight: bool) -> float:
        """When the device can start the next iteration: now, or when the one in flight ends."""
        return max(self.now_s, self._busy_until_s) if in_flight else self.now_s

    def planned(self, start_s: float, predicted_s: float) -> None:
        self._busy_until_s = start_s + predicted_s

    def launched(self, *, after_idle: bool) -> None:
        self._timer.launched(self._clock.own_s(), after_idle=after_idle)

    def ended(self) -> None:
        self._timer.ended(self._clock.own_s())
