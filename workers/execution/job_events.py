"""What a worker reports about its jobs: their steps, and exactly one end of each attempt."""

from collections.abc import Callable
from typing import Unpack

from niyama.utc import utc
from schemas import EventType, JobError, Prediction, Usage
from workers.engine.port import FinishReason, InvalidRequest, PromptTooLong
from workers.execution.in_flight import InFlightJob, timeline_of
from workers.execution.job_metrics import NoJobMetrics
from workers.execution.output import Output
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.reporting.reporter import EventDetails, Reporter, result_too_large
from workers.tracing.traces import NoTraces

_DECISION_EVENTS = {
    DecisionKind.STARTED: EventType.STARTED,
    DecisionKind.PARKED: EventType.PARKED,
    DecisionKind.RELEGATED: EventType.RELEGATED,
    DecisionKind.RESTORED: EventType.RESTORED,
}


class JobEvents:
    """Reports what happens to in-flight jobs as events."""

    def __init__(
        self,
        reporter: Reporter,
        metrics: NoJobMetrics,
        traces: NoTraces,
        on_ended: Callable[[InFlightJob], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`on_ended` is called once Kafka has acknowledged a job's terminal event, or once that is
        superseded. `clock` gives UTC epoch seconds, `monotonic` those of the jobs' timelines."""
        self._reporter = reporter
        self._metrics = metrics
        self._traces = traces
        self._on_ended = on_ended
        self._clock = clock
        self._monotonic = monotonic

    # ---- steps

    def taken(self, job: InFlightJob) -> None:
        """An attempt at the job begins."""
        now_s = self._clock()
        job.timeline = timeline_of(job, now_s, self._monotonic())
        job.trace = self._traces.begin(
            job.tracked.record, job.attempt.number, job.spec, job.attempt.trace, now_s
        )
        self._metrics.taken(job)
        if job.attempt.number > 1:
            reason = "an earlier attempt was lost with its worker"
            self._reporter.event(job.attempt, EventType.RETRIED, reason=reason)

    def admitted(self, job: InFlightJob) -> None:
        now_s = self._clock()
        job.trace.admitted(now_s)
        usage = Usage(prompt_tokens=job.prompt_tokens)
        self._reporter.event(job.attempt, EventType.ADMITTED, at_s=now_s, usage=usage)

    def submitted(self, job: InFlightJob) -> None:
        """The engine has it. There is no event of this."""
        job.timeline.submitted(self._monotonic())

    def first_token(self, job: InFlightJob, usage: Usage, at_s: float) -> None:
        job.trace.first_token(at_s)
        self._metrics.first_token(job, at_s)
        self._reporter.event(job.attempt, EventType.FIRST_TOKEN, at_s=at_s, usage=usage)

    def decided(self, job: InFlightJob, decision: Decision) -> None:
        """Report a decision of the scheduler, if it has an event."""
        job.trace.decided(decision)
        self._metrics.decided(job, decision)
        if (kind := _DECISION_EVENTS.get(decision.kind)) is not None:
            self._reporter.event(
                job.attempt,
                kind,
                at_s=decision.at_s,
                reason=decision.reason or None,
                prediction=_prediction(job, decision),
            )

    # ---- ends

    def generated(self, job: InFlightJob, output: Output) -> None:
        """The generation has ended: completed, expired, cancelled or failed."""
        if output.finish_reason is None:
            self.failed(job, "the engine ended the generation without a finish reason")
            return
        details: EventDetails = {"usage": output.usage, "largest_gap_ms": output.largest_gap_ms}
        if (decision := output.ended_by) is not None:
            kind = EventType.EXPIRED
            details["reason"] = decision.reason
            details["prediction"] = _prediction(job, decision)
        elif output.finish_reason is FinishReason.CANCELLED:
            kind = EventType.CANCELLED
            details["reason"] = job.cancel_reason
        elif output.finish_reason is FinishReason.TOO_LARGE:
            kind = EventType.FAILED
            details["error"] = result_too_large()
        else:
            kind = EventType.COMPLETED
            details["result"] = output.result()
        self._end(job, kind, **details)

    def cancelled(self, job: InFlightJob) -> None:
        """Cancelled before its generation started."""
        usage = Usage(prompt_tokens=job.prompt_tokens)
        self._end(job, EventType.CANCELLED, reason=job.cancel_reason, usage=usage)

    def expired(self, job: InFlightJob, now_s: float) -> None:
        """Expired before it was given to the engine."""
        qos, forecast = job.spec.qos, Forecast(queue_wait_s=0.0, finish_s=now_s)
        self.not_prepared(job, Decision.expired(job.request_id, qos, now_s, forecast))

    def not_prepared(self, job: InFlightJob, ended_by: Decision | None) -> None:
        """Expired or, without a decision, cancelled while it waited to be prepared."""
        if ended_by is None:
            self._end(job, EventType.CANCELLED, reason=job.cancel_reason)
        else:
            prediction = _prediction(job, ended_by)
            self._end(job, EventType.EXPIRED, reason=ended_by.reason, prediction=prediction)

    def failed(self, job: InFlightJob, message: str) -> None:
        usage = Usage(prompt_tokens=job.prompt_tokens)
        error = JobError(code="engine_error", message=message)
        self._end(job, EventType.FAILED, error=error, usage=usage)

    def refused(self, job: InFlightJob, error: InvalidRequest) -> None:
        """The engine cannot serve the job as it is: it becomes a dead letter, and fails."""
        too_long = isinstance(error, PromptTooLong)
        reason = JobError(
            code="prompt_too_long" if too_long else "invalid_request", message=str(error)
        )
        at_s, details = self._finish(job, EventType.FAILED, {"error": reason})
        self._reporter.refused(
            job.tracked.record,
            job.attempt,
            reason,
            lambda: self._gone(job),
            at_s=at_s,
            times=details["times"],
            trace_id=details["trace_id"],
        )

    def _end(self, job: InFlightJob, kind: EventType, **details: Unpack[EventDetails]) -> None:
        at_s, details = self._finish(job, kind, details)
        self._reporter.event(
            job.attempt, kind, at_s=at_s, on_delivered=lambda: self._gone(job), **details
        )

    def _finish(
        self, job: InFlightJob, kind: EventType, details: EventDetails
    ) -> tuple[float, EventDetails]:
        """The attempt is over: its end is noted here, and what its event says of it is returned."""
        job.ended()
        at_s = self._clock()
        details["times"] = job.timeline.times(self._monotonic())
        job.trace.ended(kind, at_s, **details)
        details["trace_id"] = self._traces.keep(job.trace)
        self._metrics.ended(job, kind, at_s, **details)
        return at_s, details

    def _gone(self, job: InFlightJob) -> None:
        self._on_ended(job)
        self._metrics.acknowledged(job)
        self._traces.delivered(job.trace)


def _prediction(job: InFlightJob, decision: Decision) -> Prediction:
    """The job's deadline and, if the scheduler made one, its forecast."""
    deadline_at = utc(job.spec.qos.deadline_s)
    if (forecast := decision.forecast) is None:
        return Prediction(deadline_at=deadline_at)
    return Prediction(
        deadline_at=deadline_at,
        finish_at=utc(forecast.finish_s),
        queue_wait_s=forecast.queue_wait_s,
    )
