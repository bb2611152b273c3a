"""Which traces are kept, decided when a job has ended and its outcome is known."""

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from uuid import UUID

from opentelemetry.trace import format_trace_id

from niyama.kafka import ConsumedRecord
from niyama.logs import Throttle
from schemas import EventType, JobError
from schemas.headers import Headers, trace_parent
from workers.job import Job
from workers.tracing.job_trace import NO_TRACE, JobTrace, NoTrace
from workers.tracing.outcome import SAMPLED, is_producers_fault, reasons_to_keep
from workers.tracing.spans import SpanMaker

log = logging.getLogger(__name__)


class Share(StrEnum):
    """Why a trace is kept. None of these takes away what is kept for another."""

    OUTCOME = "outcome"
    """For how the job fared here."""
    EXPIRED = "expired"
    """It was not started in the time that its producer gave it: a moment, perhaps."""
    SAMPLED = "sampled"
    """By its producer, who may sample everything, or by chance."""
    REFUSED = "refused"
    """For what is wrong with the record or the job: anybody can write thousands in a second."""


KEPT_PER_S = {Share.OUTCOME: 20.0, Share.EXPIRED: 4.0, Share.SAMPLED: 8.0, Share.REFUSED: 2.0}
"""Traces kept in a second, in the mean. Each takes half a millisecond of this process, most of it
to be encoded. In an overload, in which every job is late, or when a producer samples everything,
keeping more would slow down the serving of jobs."""
KEPT_AT_ONCE_S = 4.0
"""In a moment, after a quiet time, as many are kept as otherwise in this time."""


class NoTraces:
    """Those of a worker that does not trace."""

    def begin(
        self, record: ConsumedRecord, attempt: int, job: Job, headers: Headers, taken_s: float
    ) -> JobTrace | NoTrace:
        """Note nothing of an attempt, but the trace that the record's `headers` name."""
        return _not_noted(headers)

    def refused(
        self,
        record: ConsumedRecord,
        attempt: int,
        job_id: UUID | None,
        headers: Headers,
        error: JobError,
        at_s: float,
    ) -> JobTrace | NoTrace:
        """The same of a record that was refused."""
        return _not_noted(headers)

    def keep(self, trace: JobTrace | NoTrace) -> str | None:
        """Keep nothing."""
        return None

    def delivered(self, trace: JobTrace | NoTrace) -> None:
        """Make no spans."""


def _not_noted(headers: Headers) -> NoTrace:
    parent = trace_parent(headers)
    return NO_TRACE if parent is None else NoTrace(parent.trace_id)


class Allowance:
    """How many traces may still be kept of one share."""

    def __init__(self, share: Share, now_s: float) -> None:
        self._per_s = KEPT_PER_S[share]
        self._left = self._most = self._per_s * KEPT_AT_ONCE_S
        self._counted_s = now_s

    def allows(self, now_s: float) -> bool:
        """Whether there is one more, which is taken."""
        earned = max(0.0, now_s - self._counted_s) * self._per_s
        self._left = min(self._most, self._left + earned)
        self._counted_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _share(trace: JobTrace, reasons: Sequence[str]) -> Share:
    """By whose doing it is that the trace is kept."""
    ending = trace.ending
    if ending is not None and ending.error is not None and is_producers_fault(ending.error):
        return Share.REFUSED
    if ending is not None and ending.kind is EventType.EXPIRED:
        return Share.EXPIRED
    return Share.SAMPLED if list(reasons) == [SAMPLED] else Share.OUTCOME


class JobTraces(NoTraces):
    """The traces of one worker's jobs. Nothing here raises, or waits."""

    def __init__(self, maker: SpanMaker, sample_ratio: float, clock: Callable[[], float]) -> None:
        """`clock` gives UTC epoch seconds."""
        self._maker = maker
        self._sample_ratio = sample_ratio
        self._clock = clock
        self._throttle = Throttle()
        self._allowances = {share: Allowance(share, clock()) for share in Share}
        self.kept = 0
        self.dropped = 0
        """To be kept, and too many, or not possible to make."""

    def begin(
        self, record: ConsumedRecord, attempt: int, job: Job, headers: Headers, taken_s: float
    ) -> JobTrace:
        """Note an attempt at a job, whose record has these headers and was read at `taken_s`."""
        return JobTrace.begin(record, attempt, job, headers, taken_s, self._sample_ratio)

    def refused(
        self,
        record: ConsumedRecord,
        attempt: int,
        job_id: UUID | None,
        headers: Headers,
        error: JobError,
        at_s: float,
    ) -> JobTrace:
        """Note the whole attempt at a record that was read and refused at `at_s`.

        `job_id`: of the job that fails by it, if the record says so much.
        """
        trace = JobTrace.begin(record, attempt, None, headers, at_s, self._sample_ratio)
        trace.job_id = job_id
        trace.ended(EventType.FAILED, at_s, error=error)
        return trace

    def keep(self, trace: JobTrace | NoTrace) -> str | None:
        """Decide whether to keep a trace that has ended: its id if so. It can yet be lost."""
        if isinstance(trace, NoTrace) or not (reasons := reasons_to_keep(trace)):
            return None
        if not self._allowances[_share(trace, reasons)].allows(self._clock()):
            self._drop("there are too many to keep")
            return None
        trace.kept_because = reasons
        return format_trace_id(trace.trace_id)

    def delivered(self, trace: JobTrace | NoTrace) -> None:
        """Kafka has acknowledged the attempt's last event: make its spans, if they are kept."""
        if isinstance(trace, NoTrace) or trace.ending is None or not trace.kept_because:
            return
        try:
            self._maker.make(trace, max(self._clock(), trace.ending.at_s))
        except Exception as error:  # an operator loses a trace, and nobody an answer
            self._drop(f"{type(error).__name__}: {error}")
        else:
            self.kept += 1

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._throttle.warning(log, "traces are not kept (%d so far): %s", self.dropped, reason)
