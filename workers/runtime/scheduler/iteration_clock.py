"""The time by which iterations are planned: the first rank's, and what iterations take."""

from collections.abc import Callable, Sequence
from typing import Protocol

from workers.engine.load import Iterations
from workers.policy.release import Release
from workers.runtime.scheduler.iteration_timer import IterationTimer
from workers.runtime.scheduler.wall_clock import STEP_S, Instant


class Clock(Protocol):
    """`workers.runtime.scheduler.ranks.SharedClock`."""

    def own_s(self) -> float:
        """This rank's own monotonic time, for measurements."""

    def share(self, durations_s: Sequence[float]) -> tuple[Instant, list[float]]:
        """The first rank's time and durations. Every rank must ask at the same points."""


class IterationClock:
    def __init__(self, clock: Clock, on_step: Callable[[float, float], None]) -> None:
        """`on_step` is called when the wall clock was set, with the time that it shows now and the
        seconds by which it jumped. All ranks agree about both.
        """
        self._clock = clock
        self._on_step = on_step
        self._timer = IterationTimer()
        self._busy_until_s = 0.0
        self._predicted_s: float | None = None
        self.iterations = Iterations()
        self._now, _ = clock.share(())

    @property
    def now_s(self) -> float:
        """The time that all ranks agree on, as of the last arrival or plan; UTC epoch seconds."""
        return self._now.epoch_s

    def own_s(self) -> float:
        """This rank's own monotonic time at this moment."""
        return self._clock.own_s()

    def tick(self) -> None:
        self._share(())

    def shared_s(self) -> float:
        """The first rank's time at this moment; every rank must ask."""
        self.tick()
        return self.now_s

    def synchronize(self) -> list[float]:
        """Tick, and take the durations of iterations that ended since the last call, in order."""
        durations_s = self._share(self._timer.take())
        self.iterations.ended(durations_s)
        return durations_s

    def start_s(self, *, in_flight: bool) -> float:
        """When the device can start the next iteration: now, or when the one in flight ends."""
        return max(self.now_s, self._busy_until_s) if in_flight else self.now_s

    def planned(self, start_s: float, predicted_s: float) -> None:
        self._busy_until_s, self._predicted_s = start_s + predicted_s, predicted_s

    def take_prediction(self) -> float | None:
        """How long the iteration that is launched now was planned to take; None without a plan."""
        predicted_s, self._predicted_s = self._predicted_s, None
        return predicted_s

    def launched(self, *, after_idle: bool) -> None:
        self._timer.launched(self._clock.own_s(), after_idle=after_idle)

    def ended(self) -> None:
        self._timer.ended(self._clock.own_s())

    @property
    def offset_s(self) -> float:
        """From monotonic to UTC epoch seconds: to report, not to decide by."""
        return self._now.offset_s

    def monotonic(self, release: Release) -> Release:
        """The same schedule on the machine's monotonic clock, which nobody sets."""
        return release._replace(first_s=release.first_s - self._now.offset_s)

    def _share(self, durations_s: Sequence[float]) -> list[float]:
        before_s = self._now.offset_s
        self._now, shared_durations_s = self._clock.share(durations_s)
        step_s = self._now.offset_s - before_s
        if abs(step_s) > STEP_S:
            self._busy_until_s += step_s
            self._on_step(self.now_s, step_s)
        return shared_durations_s
