"""What a worker reports of a job that has expired."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from schemas import EventType, JobEvent, JobRequest, PoolTopics, QosCatalog, Usage
from workers.engine.null import NullEngine
from workers.engine.port import (
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.execution.executor import Execution
from workers.execution.in_flight import Roster
from workers.execution.job import Job, qos_of
from workers.offsets.watermark import PartitionProgress
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.reporting.reporter import Reporter, Subject

ARRIVED_S = 1000.0
TOPICS = PoolTopics.of("default")


class ExpiringEngine(NullEngine):
    """Gives every request up, as a scheduler with too much to do."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        assert request.qos.expires_s == ARRIVED_S + 30
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        forecast = Forecast(queue_wait_s=60.0, finish_s=ARRIVED_S + 90)
        reason = "not started 30 s after it arrived"
        decision = Decision(prepared.request_id, DecisionKind.EXPIRED, 1030.1, reason, forecast)
        yield GenerationUpdate("", (), 7, 0, 0, FinishReason.EXPIRED, ended_by=decision)


async def test_a_job_that_expires_ends_with_reason_prediction_and_usage(
    record: Any, outbox: Any, subject: Subject
) -> None:
    reporter = Reporter(outbox, TOPICS, worker_id="w", pool="default", clock=lambda: 1030.2)
    roster, progress = Roster(), PartitionProgress()
    execution = Execution(
        ExpiringEngine(),
        roster,
        reporter,
        outbox,
        commit=_no_commit,
        max_attempts=3,
        clock=lambda: 1030.2,
    )
    flight = progress.take(7)
    assert flight is not None
    work = roster.add(_job(), record(offset=7), flight, progress, subject)

    execution.start(work)
    assert work.task is not None
    await work.task

    admitted, end = (JobEvent.model_validate_json(sent.value) for _, sent in outbox.records)
    assert (admitted.type, end.type) == (EventType.ADMITTED, EventType.EXPIRED)
    assert end.reason == "not started 30 s after it arrived"
    assert end.prediction is not None
    assert end.prediction.finish_at == datetime.fromtimestamp(ARRIVED_S + 90, UTC)
    assert end.prediction.deadline_at == datetime.fromtimestamp(ARRIVED_S + 1, UTC)
    assert end.usage == Usage(prompt_tokens=7)
    assert (end.result, end.error) == (None, None)
    assert progress.is_unfinished(7)
    outbox.records[-1][1].on_delivered()
    assert not progress.is_unfinished(7)
    assert len(roster) == 0


def _job() -> Job:
    request = JobRequest(model="null", prompt="p", qos="chat", expire_after_s=30)
    targets = QosCatalog.shipped().resolve("chat")
    return Job(uuid4(), request, qos_of(request, targets, ARRIVED_S))


async def _no_commit() -> None:
    raise AssertionError("nothing here needs to be on record before it begins")
