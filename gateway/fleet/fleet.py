"""The fleet: which workers there are, what each said last, and how long ago.

In memory, and the same in every gateway: each reads all reports.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from niyama.logs import Throttle
from niyama.waiting import Turns
from schemas import JobError, LoadReport
from schemas.decode import decode_load
from schemas.topics import worker_key

log = logging.getLogger(__name__)

GONE_AFTER_S = 5.0
"""Without a report; workers publish one a second."""
FORGOTTEN_AFTER_S = 300.0
OLD_S = 60.0
"""A report of an unknown worker that was this old when reading began is of one that has long been
gone. Clocks that differ by less make no difference."""
MAX_WORKERS = 10_000
"""More are not remembered: those that were silent for longest are forgotten first, and before them
what was never found to be a report."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""Of the workers' reports as they were read, likewise. Decoded, a report takes some ten times as
much."""
DECODED_AT_ONCE_BYTES = 64 * 1024
"""Before anything else in this process has its turn: a few milliseconds, of the worst 15."""


class WorkerState(StrEnum):
    SERVING = "serving"
    DRAINING = "draining"
    """It takes no more jobs, and ends soon."""
    GONE = "gone"
    """It has stopped reporting: it died, or Kafka does not get its reports."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    report: LoadReport
    """Its last."""
    silent_s: float
    """Since then."""

    @property
    def state(self) -> WorkerState:
        if self.silent_s > GONE_AFTER_S:
            return WorkerState.GONE
        return WorkerState.DRAINING if self.report.draining else WorkerState.SERVING


@dataclass(slots=True)
class _Heard:
    """A worker's last record."""

    at_s: float
    size_bytes: int
    content: bytes | LoadReport | None
    """Bytes until somebody asks for the report; None: it is none."""
    was_report: bool
    """So was the one before, which somebody has asked for."""

    @property
    def is_report(self) -> bool:
        """Whether this is one, for all that is known."""
        return self.was_report if isinstance(self.content, bytes) else self.content is not None


class Fleet:
    """Reports are decoded when they are asked for: most are replaced before anybody does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._heard: OrderedDict[bytes, _Heard] = OrderedDict()
        """By key; who was heard last, last."""
        self._unproven: OrderedDict[bytes, None] = OrderedDict()
        """Keys whose records may be anything, likewise. Whoever can write records can write
        thousands, and they must not take the places of workers."""
        self._held_bytes = 0
        self.following = False
        """Whether reports are being read: without, nobody being known says nothing."""
        self._throttle, self._age_throttle = Throttle(), Throttle()
        self._left_out = 0
        """Reports that were too old."""
        self.unread: int | None = None
        """Load reports that Kafka has and that were not read yet. None: nobody knows."""

    def heard(self, key: bytes, record: bytes, age_s: float = 0.0) -> None:
        """A worker's record was read, which Kafka had had for `age_s` before reading began.

        That it is a report is found out when it is asked for.
        """
        self._forget_silent()
        before = self._heard.get(key)
        self._remove(key)
        # What is read late, because there was much to read, still is the last word of a worker.
        if before is None and age_s >= OLD_S:
            self._left_out += 1
            if self._age_throttle.allows(self._clock()):
                said = "left out %d load reports so far that were %g s old or older"
                log.info(said, self._left_out, OLD_S)
            return
        was_report = before is not None and before.is_report
        self._heard[key] = _Heard(self._clock(), len(record), record, was_report)
        self._held_bytes += len(record)
        if not was_report:
            self._unproven[key] = None
        while len(self._heard) > MAX_WORKERS or self._held_bytes > MAX_HELD_BYTES:
            first = next(iter(self._unproven), key)
            self._remove(next(iter(self._heard)) if first == key else first)

    def withdrawn(self, key: bytes) -> None:
        """A worker has ended in order."""
        self._forget_silent()
        self._remove(key)

    async def in_turns(self) -> list[WorkerStatus]:
        """As `all`, and what is decoded for it takes many short turns."""
        turns = Turns(DECODED_AT_ONCE_BYTES)
        for key, heard in list(self._heard.items()):
            if isinstance(heard.content, bytes):
                self._report(key, heard)
                await turns.after(heard.size_bytes)
        return self.all()

    def all(self) -> list[WorkerStatus]:
        """By pool and worker id. May be asked in any thread: it forgets nobody."""
        return sorted(self._statuses(), key=lambda each: (each.report.pool, each.report.worker_id))

    def _statuses(self) -> Iterator[WorkerStatus]:
        now_s = self._clock()
        for key, heard in list(self._heard.items()):
            if heard.at_s >= now_s - FORGOTTEN_AFTER_S:
                report = self._report(key, heard)
                if report is not None:
                    yield WorkerStatus(report, now_s - heard.at_s)

    def _report(self, key: bytes, heard: _Heard) -> LoadReport | None:
        """None: the record is no report, or not of the worker of this key."""
        content = heard.content
        if not isinstance(content, bytes):
            return content
        report = decode_load(content)
        if isinstance(report, JobError):
            heard.content, fault = None, report.message
        elif worker_key(report.pool, report.worker_id) != key:
            heard.content, fault = None, "its key is not that of its worker"
        else:
            heard.content = report
            return report
        self._throttle.warning(log, "a load report with the key %r is not shown: %s", key, fault)
        return None

    def _forget_silent(self) -> None:
        oldest_s = self._clock() - FORGOTTEN_AFTER_S
        while self._heard and next(iter(self._heard.values())).at_s < oldest_s:
            self._remove(next(iter(self._heard)))

    def _remove(self, key: bytes) -> None:
        self._unproven.pop(key, None)
        if (heard := self._heard.pop(key, None)) is not None:
            self._held_bytes -= heard.size_bytes
