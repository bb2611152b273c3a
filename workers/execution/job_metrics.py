"""What is measured of the jobs that a worker runs."""

from collections.abc import Callable
from typing import Unpack

from niyama.telemetry.instruments import worker as instruments
from niyama.telemetry.measurements import Measurements, Observed
from schemas import EventType, JobError
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.job import Job
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.reporter import EventDetails

MET = {True: "true", False: "false"}
_STATES = {
    DecisionKind.STARTED: "running",
    DecisionKind.PARKED: "parked",
    DecisionKind.RESUMED: "running",
    DecisionKind.RECLAIMED: "parked",
    DecisionKind.RELEGATED: "relegated",
    DecisionKind.RESTORED: "running",
}
"""Of a job in its engine, after each decision. A restored prompt is reported when it runs."""


class NoJobMetrics:
    """Those of a worker that does not measure."""

    def taken(self, job: InFlightJob) -> None:
        """Nothing is measured."""

    def decided(self, job: InFlightJob, decision: Decision) -> None:
        """Nothing is measured."""

    def first_token(self, job: InFlightJob, at_s: float) -> None:
        """Nothing is measured."""

    def ended(
        self, job: InFlightJob, kind: EventType, now_s: float, **details: Unpack[EventDetails]
    ) -> None:
        """Nothing is measured."""

    def refused(self, spec: Job | None) -> None:
        """A job fails that no attempt was made at; None: it cannot be read."""

    def acknowledged(self, job: InFlightJob) -> None:
        """Nothing is measured."""


class JobMetrics(NoJobMetrics):
    """Is told of every step of every job, and adds it up."""

    def __init__(
        self, measurements: Measurements, model: str, group: str, monotonic: Callable[[], float]
    ) -> None:
        """`group` is the consumer group; `monotonic` gives seconds of the jobs' timelines."""
        self._model = model
        self._group = group
        self._monotonic = monotonic
        counter, histogram = measurements.counter, measurements.histogram
        self._request_duration = histogram(instruments.REQUEST_DURATION)
        self._time_to_first_token = histogram(instruments.TIME_TO_FIRST_TOKEN)
        self._time_per_token = histogram(instruments.TIME_PER_OUTPUT_TOKEN)
        self._queue = histogram(instruments.QUEUE_DURATION)
        self._process = histogram(instruments.PROCESS_DURATION)
        self._slack = histogram(instruments.JOB_SLACK)
        self._lateness = histogram(instruments.JOB_LATENESS)
        self._jobs_ended = counter(instruments.JOBS_ENDED)
        self._missed_targets = counter(instruments.MISSED_TARGETS)
        self._retries = counter(instruments.JOB_RETRIES)
        self._relegations = counter(instruments.RELEGATIONS)
        self._decisions = counter(instruments.DECISIONS)

    # ---- steps

    def taken(self, job: InFlightJob) -> None:
        """The worker has it."""
        if job.attempt.number > 1:
            self._retries.add(1)

    def decided(self, job: InFlightJob, decision: Decision) -> None:
        qos = job.spec.qos
        self._decisions.add(1, decision.kind)
        job.measured.state = _STATES.get(decision.kind, job.measured.state)
        if decision.kind is DecisionKind.STARTED:
            self._queue.record(decision.at_s - qos.arrival_s, qos.kind, job.spec.qos_class)
        elif decision.kind is DecisionKind.RELEGATED:
            self._relegations.add(1, decision.reason, qos.importance, qos.kind)

    def first_token(self, job: InFlightJob, at_s: float) -> None:
        """It was shown, at `at_s` in UTC epoch seconds."""
        timeline, qos = job.timeline, job.spec.qos
        if timeline.submitted_s is not None and timeline.first_shown_s is not None:
            waited_s = timeline.first_shown_s - timeline.submitted_s
            self._time_to_first_token.record(waited_s, job.spec.operation, self._model)
        if qos.deadline_is_first_token:
            job.measured.first_token_s = at_s
            self._due("first", job, at_s)

    # ---- ends

    def ended(
        self,
        job: InFlightJob,
        kind: EventType,
        now_s: float,
        **details: Unpack[EventDetails],
    ) -> None:
        """Its end is known, at `now_s` in UTC epoch seconds."""
        usage, error = details.get("usage"), details.get("error")
        error_type = "" if kind is EventType.COMPLETED else _error_type(kind, error)
        job.measured.error_type = error_type
        self._generated(job, usage.completion_tokens if usage else 0, error_type)
        if kind is EventType.COMPLETED and not job.spec.qos.deadline_is_first_token:
            self._due("last", job, now_s)
        if kind is not EventType.CANCELLED:  # it neither met nor missed anything
            completed_s = now_s if kind is EventType.COMPLETED else None
            self._judge(job.spec, job.measured.first_token_s, completed_s, details)

    def refused(self, spec: Job | None) -> None:
        if spec is not None:
            self._judge(spec, None, None, {})
        else:
            self._jobs_ended.add(1, MET[False], "", "", "")

    def acknowledged(self, job: InFlightJob) -> None:
        """Kafka has its end."""
        topic, error_type = job.tracked.record.topic, job.measured.error_type
        passed_s = self._monotonic() - job.timeline.read_s
        self._process.record(passed_s, topic, self._group, error_type)

    def _generated(self, job: InFlightJob, tokens: int, error_type: str) -> None:
        """It was in the engine, if it came so far, until now."""
        timeline, operation, now_s = job.timeline, job.spec.operation, self._monotonic()
        if timeline.submitted_s is not None:
            duration_s = now_s - timeline.submitted_s
            self._request_duration.record(duration_s, operation, self._model, error_type)
        if timeline.first_shown_s is not None and tokens > 1:
            per_token_s = (now_s - timeline.first_shown_s) / (tokens - 1)
            self._time_per_token.record(per_token_s, operation, self._model)

    # ---- deadlines

    def _due(self, token: str, job: InFlightJob, at_s: float) -> None:
        qos = job.spec.qos
        slack_s = qos.deadline_s - at_s
        if slack_s >= 0:
            self._slack.record(slack_s, token, qos.kind, job.spec.qos_class)
        else:
            self._lateness.record(-slack_s, token, qos.kind, job.spec.qos_class)

    def _judge(
        self,
        spec: Job,
        first_token_s: float | None,
        completed_s: float | None,
        details: EventDetails,
    ) -> None:
        """A job has met its deadlines that completed, and of whose targets none was missed."""
        qos, qos_class = spec.qos, spec.qos_class
        judged = qos.judged(
            first_token_s=first_token_s,
            completed_s=completed_s,
            largest_gap_ms=details.get("largest_gap_ms"),
        )
        met = completed_s is not None and all(judged.values())
        self._jobs_ended.add(1, MET[met], qos.kind, qos_class, qos.tenant)
        if not met:
            for target, was_met in judged.items():
                if not was_met:
                    self._missed_targets.add(1, target, qos.kind, qos_class)


def jobs_in_flight(in_flight: InFlightJobs) -> Observed:
    """How many jobs there are now, by state and topic; all states of every topic that had any."""
    states = ("waiting", "relegated", "running", "parked")
    counts = {(state, topic): 0 for topic in in_flight.topics for state in states}
    for job in in_flight:
        counts[job.measured.state, job.tracked.record.topic] += 1
    return [(count, values) for values, count in counts.items()]


def _error_type(kind: EventType, error: JobError | None) -> str:
    return kind if error is None else error.code
