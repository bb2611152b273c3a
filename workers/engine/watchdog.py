"""Finds what hangs: whatever is expected to show signs of life, and does not.

Silence is counted in ticks of the one who listens, not by a clock. A process that was itself
frozen (SIGSTOP, a paused virtual machine), or whose event loop was blocked, has not listened
meanwhile, and must not take its own absence for the death of another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TICK_S = 1.0


@dataclass(slots=True, eq=False)
class Watched:
    """Something that is expected to show signs of life until it is no longer watched."""

    name: str
    silent_ticks: int = 0

    def alive(self) -> None:
        """It has shown a sign of life."""
        self.silent_ticks = 0


class Watchdog:
    """Call `tick` every `TICK_S`, from one thread; everything else may be called from any."""

    def __init__(self, limit_s: float) -> None:
        """What has been silent for `limit_s` counts as hung."""
        self.limit_s = limit_s
        self._watched: set[Watched] = set()

    def watch(self, name: str) -> Watched:
        """Expect signs of life of `name`, from now on."""
        watched = Watched(name)
        self._watched.add(watched)
        return watched

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Expect `name` to have done its work, inside the context, within the limit."""
        watched = self.watch(name)
        try:
            yield
        finally:
            self._watched.discard(watched)

    @property
    def silence_s(self) -> float:
        """How long the quietest of all has been silent."""
        return max((each.silent_ticks for each in self._watched.copy()), default=0) * TICK_S

    def tick(self) -> str | None:
        """Count a tick; the name of something that hangs, None when nothing does."""
        for watched in self._watched.copy():
            watched.silent_ticks += 1
            if watched.silent_ticks * TICK_S > self.limit_s:
                return watched.name
        return None
