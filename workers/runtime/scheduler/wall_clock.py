"""The wall clock, fit to plan by: it only jumps when the machine's clock was set."""

import time
from collections.abc import Callable
from typing import NamedTuple

STEP_S = 0.5
"""A larger difference is a step: NTP set the clock, or a paused virtual machine was resumed."""
_SLEW = 0.05
"""Share of the time by which smaller differences are made up."""
_READINGS = 3


class Instant(NamedTuple):
    """One moment on both clocks, in seconds."""

    epoch_s: float
    """UTC. Deadlines are on this one."""
    monotonic_s: float
    """Of this machine, the same in all of its processes. Durations are differences of these."""

    @property
    def offset_s(self) -> float:
        return self.epoch_s - self.monotonic_s


class WallClock:
    """Follows the wall clock. Between steps it never runs back, nor much faster or slower."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall` gives UTC epoch seconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._now = self._reading()

    def now(self) -> Instant:
        read = self._reading()
        behind_s = read.offset_s - self._now.offset_s
        if abs(behind_s) > STEP_S:
            self._now = read
        else:
            most_s = _SLEW * (read.monotonic_s - self._now.monotonic_s)
            offset_s = self._now.offset_s + max(-most_s, min(most_s, behind_s))
            self._now = Instant(read.monotonic_s + offset_s, read.monotonic_s)
        return self._now

    def _reading(self) -> Instant:
        """Both clocks at once: this process may lose its core for a while between two readings."""
        return min((self._one_reading() for _ in range(_READINGS)), key=lambda each: each[0])[1]

    def _one_reading(self) -> tuple[float, Instant]:
        """With the time that it took."""
        before_s = self._monotonic()
        epoch_s = self._wall()
        after_s = self._monotonic()
        return after_s - before_s, Instant(epoch_s, after_s)
