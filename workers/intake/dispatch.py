"""What is done with a record that was read: run it, refuse it, or report it cancelled."""

from collections.abc import Callable

from niyama.kafka import ConsumedRecord
from schemas import EventType, JobError, Refusal
from workers.execution.executor import Execution
from workers.execution.in_flight import Roster
from workers.execution.job import Job
from workers.intake.admission import Admission
from workers.intake.cancellations import Cancellations
from workers.offsets.watermark import Flight, PartitionProgress
from workers.reporting.reporter import Reporter, subject_of


class Reception:
    """Decides on each record at once. A record that cannot be a job never stops its partition."""

    def __init__(
        self,
        admission: Admission,
        roster: Roster,
        execution: Execution,
        reporter: Reporter,
        cancellations: Cancellations,
        *,
        max_attempts: int,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` gives UTC epoch seconds."""
        self._admission = admission
        self._roster = roster
        self._execution = execution
        self._reporter = reporter
        self._cancellations = cancellations
        self._max_attempts = max_attempts
        self._clock = clock

    def accept(self, record: ConsumedRecord, flight: Flight, progress: PartitionProgress) -> None:
        """See to it that ``record`` is finished some day."""
        attempt = flight.history.attempts + 1

        def finished() -> None:
            progress.finish(record.offset)

        if flight.history.crashes > self._max_attempts:
            # One more than refuses a job below: merely decoding it kills workers.
            self._reporter.refused(record, None, _too_many(flight), finished)
            return
        job = self._admission.admit(record, self._clock())
        if isinstance(job, Refusal):
            subject = job.job_id and subject_of(record, job.job_id, attempt)
            self._reporter.refused(record, subject or None, job.error, finished)
            return
        subject = subject_of(record, job.job_id, attempt)
        if error := self._objection(job, flight):
            # A failed event for a second record of a job would end the first one's.
            about = None if error.code == "duplicate_job_id" else subject
            self._reporter.refused(record, about, error, finished)
        elif request := self._cancellations.of(job.job_id):
            self._reporter.event(
                subject, EventType.CANCELLED, reason=request.reason, on_delivered=finished
            )
        else:
            self._execution.start(self._roster.add(job, record, flight, progress, subject))

    def _objection(self, job: Job, flight: Flight) -> JobError | None:
        if self._roster.has(job.job_id):
            message = f"job {job.job_id} is in progress already; give every job an id of its own"
            return JobError(code="duplicate_job_id", message=message)
        if flight.history.crashes >= self._max_attempts:
            return _too_many(flight)
        return None


def _too_many(flight: Flight) -> JobError:
    message = f"{flight.history.crashes} workers died with this job in hand"
    return JobError(code="too_many_attempts", message=message)
