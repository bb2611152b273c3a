"""Which workers there are: what each said last, and how long ago.

In memory, and the same in every gateway: each reads all reports.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas import LoadReport

GONE_AFTER_S = 5.0
"""Without a report; workers publish one a second."""
FORGOTTEN_AFTER_S = 300.0
OLD_S = 60.0
"""A report that was this old when it was read is of a worker that has long been gone. Clocks that
differ by less make no difference."""
MAX_WORKERS = 10_000
"""More are not remembered: those that were silent for longest are forgotten first."""


class WorkerState(StrEnum):
    SERVING = "serving"
    DRAINING = "draining"
    """It takes no more jobs, and ends soon."""
    GONE = "gone"
    """It has stopped reporting: it died, or Kafka does not get its reports."""


@dataclass(frozen=True, slots=True)
class KnownWorker:
    report: LoadReport
    """Its last."""
    silent_s: float
    """Since then."""

    @property
    def state(self) -> WorkerState:
        if self.silent_s > GONE_AFTER_S:
            return WorkerState.GONE
        return WorkerState.DRAINING if self.report.draining else WorkerState.SERVING


class KnownWorkers:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self.following = False
        """Whether reports are being read: without, nobody being known says nothing."""
        self._clock = clock
        self._heard: OrderedDict[bytes, tuple[LoadReport, float]] = OrderedDict()
        """By key, with when it was heard; who was heard last, last."""

    def reported(self, key: bytes, report: LoadReport, age_s: float = 0.0) -> None:
        """A record was read that Kafka had for `age_s` by then."""
        self._forget_silent()
        self._heard.pop(key, None)
        if age_s < OLD_S:
            self._heard[key] = (report, self._clock())
        if len(self._heard) > MAX_WORKERS:
            self._heard.popitem(last=False)

    def withdrawn(self, key: bytes) -> None:
        """A worker has ended in order."""
        self._forget_silent()
        self._heard.pop(key, None)

    def all(self) -> list[KnownWorker]:
        """By pool and worker id. May be asked in any thread: it changes nothing."""
        return sorted(self._known(), key=lambda known: (known.report.pool, known.report.worker_id))

    def _known(self) -> Iterator[KnownWorker]:
        now_s = self._clock()
        for report, heard_s in list(self._heard.values()):
            if heard_s >= now_s - FORGOTTEN_AFTER_S:
                yield KnownWorker(report, now_s - heard_s)

    def _forget_silent(self) -> None:
        oldest_s = self._clock() - FORGOTTEN_AFTER_S
        while self._heard and next(iter(self._heard.values()))[1] < oldest_s:
            self._heard.popitem(last=False)
