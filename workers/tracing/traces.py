"""Which traces are kept, decided when a job has ended and its outcome is known."""

import logging
from collections.abc import Callable

from niyama.logs import Throttle
from schemas import EventType, JobError
from schemas.headers import Headers, trace_parent
from workers.tracing.job_trace import NO_TRACE, JobFacts, JobTrace, Message, NoTrace
from workers.tracing.outcome import reasons_to_keep
from workers.tracing.spans import SpanMaker

log = logging.getLogger(__name__)

KEPT_PER_S = 30.0
"""Traces kept in a second, in the mean. Each takes half a millisecond of this process, most of it
to be encoded. In an overload, in which every job is late, or when a producer samples everything,
keeping more would slow down the serving of jobs."""
KEPT_AT_ONCE = 100.0
"""Kept in a moment, after a quiet time."""


class NoTraces:
    """Those of a worker that does not trace."""

    def begin(
        self, message: Message, job: JobFacts | None, headers: Headers, taken_s: float
    ) -> JobTrace | NoTrace:
        """Note nothing of an attempt, but the trace that the record's `headers` name."""
        parent = trace_parent(headers)
        return NO_TRACE if parent is None else NoTrace(parent.trace_id)

    def refused(
        self, message: Message, headers: Headers, error: JobError, at_s: float
    ) -> JobTrace | NoTrace:
        """Note the whole attempt at a record that was read and refused at `at_s`."""
        trace = self.begin(message, None, headers, at_s)
        trace.ended(EventType.FAILED, at_s, error=error)
        return trace

    def delivered(self, trace: JobTrace | NoTrace) -> None:
        """Make no spans."""


class JobTraces(NoTraces):
    """The traces of one worker's jobs. Nothing here raises, or waits."""

    def __init__(self, maker: SpanMaker, sample_ratio: float, clock: Callable[[], float]) -> None:
        """`clock` gives UTC epoch seconds."""
        self._maker = maker
        self._sample_ratio = sample_ratio
        self._clock = clock
        self._throttle = Throttle()
        self._allowance = KEPT_AT_ONCE
        self._allowed_s = clock()
        self.kept = 0
        self.dropped = 0
        """To be kept, and too many, or not possible to make."""

    def begin(
        self, message: Message, job: JobFacts | None, headers: Headers, taken_s: float
    ) -> JobTrace:
        """Note an attempt at a job, whose record has these headers and was read at `taken_s`."""
        return JobTrace.begin(message, job, headers, taken_s, self._sample_ratio)

    def delivered(self, trace: JobTrace | NoTrace) -> None:
        """Kafka has acknowledged the attempt's last event: make its spans, if they are kept."""
        if isinstance(trace, NoTrace) or trace.ending is None:
            return
        now_s = self._clock()
        reasons = reasons_to_keep(trace)
        if not reasons:
            return
        if not self._allows(now_s):
            self._drop("there are too many to keep")
            return
        try:
            self._maker.make(trace, reasons, max(now_s, trace.ending.at_s))
        except Exception as error:  # an operator loses a trace, and nobody an answer
            self._drop(f"{type(error).__name__}: {error}")
        else:
            self.kept += 1

    def _allows(self, now_s: float) -> bool:
        earned = max(0.0, now_s - self._allowed_s) * KEPT_PER_S
        self._allowance = min(KEPT_AT_ONCE, self._allowance + earned)
        self._allowed_s = now_s
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._throttle.warning(log, "traces are not kept (%d so far): %s", self.dropped, reason)
