"""What happens to a record that was read: its job runs, is refused, or is reported cancelled."""

import logging
from collections.abc import Callable
from uuid import UUID

from niyama.kafka import source_of
from niyama.log_lines import log_context
from schemas import EventType, JobError, Refusal
from schemas.event import Source
from schemas.headers import trace_context
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import NoJobMetrics
from workers.intake.admission import Admission
from workers.intake.cancellations import Cancellations
from workers.intake.id_holders import IdHolders
from workers.job import Job
from workers.offsets.attempts import AttemptHistory, CrashLimit
from workers.offsets.tracked_record import TrackedRecord
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter
from workers.tracing.traces import NoTraces

log = logging.getLogger(__name__)


class Dispatcher:
    """Decides on each record immediately: one that is not a job never blocks its partition."""

    def __init__(
        self,
        admission: Admission,
        in_flight: InFlightJobs,
        executor: Executor,
        reporter: Reporter,
        cancellations: Cancellations,
        *,
        crash_limit: CrashLimit,
        clock: Callable[[], float],
        metrics: NoJobMetrics | None = None,
        traces: NoTraces | None = None,
    ) -> None:
        """`clock` gives UTC epoch seconds. Without `metrics` nothing is measured, without `traces`
        nothing traced."""
        self._admission = admission
        self._in_flight = in_flight
        self._executor = executor
        self._reporter = reporter
        self._cancellations = cancellations
        self._crash_limit = crash_limit
        self._clock = clock
        self._metrics = metrics or NoJobMetrics()
        self._traces = traces or NoTraces()
        self._ids = IdHolders(lambda job_id: bool(in_flight.by_job(job_id)))

    def dispatch(self, tracked: TrackedRecord) -> None:
        """Run, refuse or cancel one record; every path finishes its offset.

        An error in handling one record refuses that record and affects no other.
        """
        try:
            self._dispatch(tracked)
        except Exception as error:
            log.exception("cannot handle the record in %s", source_of(tracked.record))
            self._metrics.refused(None)
            self._refuse(tracked, None, _internal_error(error))

    def _dispatch(self, tracked: TrackedRecord) -> None:
        history = tracked.pending.history
        if self._crash_limit.kills_on_decode(history):
            self._metrics.refused(None)
            self._refuse(tracked, None, _too_many_attempts(history))
            return
        now_s = self._clock()
        job = self._admission.admit(tracked.record, now_s)
        # A record that is no valid job has an id all the same: its job ends as failed.
        first = self._ids.claim(job.job_id, tracked.record, now_s) if job.job_id else None
        if isinstance(job, Refusal):
            attempt = _attempt(tracked, job.job_id) if job.job_id else None
            if attempt and not first:  # else it is another job's record, or of no job at all
                self._metrics.refused(None)
            self._refuse(tracked, attempt, job.error, first)
        elif first:
            self._refuse(tracked, _attempt(tracked, job.job_id), _duplicate(job, first), first)
        else:
            self._dispatch_job(job, tracked)

    def _dispatch_job(self, job: Job, tracked: TrackedRecord) -> None:
        attempt, history = _attempt(tracked, job.job_id), tracked.pending.history
        if self._crash_limit.is_exhausted(history):
            self._metrics.refused(job)
            self._refuse(tracked, attempt, _too_many_attempts(history))
        elif request := self._cancellations.by_job(job.job_id):
            self._reporter.event(
                attempt, EventType.CANCELLED, reason=request.reason, on_delivered=tracked.finish
            )
        else:
            self._executor.start(self._in_flight.add(job, tracked, attempt))

    def _refuse(
        self,
        tracked: TrackedRecord,
        attempt: JobAttempt | None,
        error: JobError,
        duplicate_of: Source | None = None,
    ) -> None:
        # The event says which record was refused, and which one has the id: the ledger may read it
        # before anything else of the job.
        record, now_s = tracked.record, self._clock()
        job_id = attempt.job_id if attempt else None
        trace = self._traces.refused(
            record,
            tracked.pending.history.attempts + 1,
            job_id,
            trace_context(record.headers),
            error,
            now_s,
        )

        def delivered() -> None:
            tracked.finish()
            self._traces.delivered(trace)

        with log_context(job_id, trace.trace_id):
            self._reporter.refused(
                record,
                attempt,
                error,
                delivered,
                at_s=now_s,
                duplicate_of=duplicate_of,
                trace_id=self._traces.keep(trace),
            )


def _attempt(tracked: TrackedRecord, job_id: UUID) -> JobAttempt:
    number = tracked.pending.history.attempts + 1
    return JobAttempt.of(tracked.record, job_id, number, tracked.is_superseded)


def _duplicate(job: Job, source: Source) -> JobError:
    message = (
        f"job {job.job_id} is the record in {source}, which came before this one; "
        "give every job an id of its own"
    )
    return JobError(code="duplicate_job_id", message=message)


def _internal_error(error: Exception) -> JobError:
    message = f"the worker could not handle this record: {type(error).__name__}: {error}"
    return JobError(code="internal_error", message=message)


def _too_many_attempts(history: AttemptHistory) -> JobError:
    message = (
        f"{history.crashes} workers died while they ran this job, "
        f"{history.trial_crashes} of them while it ran by itself"
    )
    return JobError(code="too_many_attempts", message=message)
