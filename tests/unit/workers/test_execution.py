"""What a worker reports of a job that has expired."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from schemas import EventType, JobEvent, JobRequest, PoolTopics, QosCatalog, Usage
from workers.engine import (
    Decision,
    DecisionKind,
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    Prediction,
    PreparedRequest,
)
from workers.execution import Execution
from workers.job import Job
from workers.null_engine import NullEngine
from workers.reporting import Reporter, Subject
from workers.roster import Roster
from workers.watermark import PartitionProgress

ARRIVED_S = 1000.0
TOPICS = PoolTopics.of("default")


class ExpiringEngine(NullEngine):
    """Gives every request up, as a scheduler with too much to do."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        assert request.qos.expires_s == ARRIVED_S + 30
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        prediction = Prediction(finish_s=ARRIVED_S + 90, deadline_s=ARRIVED_S + 1)
        reason = "not begun 30 s after it arrived"
        decision = Decision(prepared.request_id, DecisionKind.EXPIRED, 1030.1, reason, prediction)
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
    assert end.reason == "not begun 30 s after it arrived"
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
    return Job(uuid4(), request, QosCatalog.shipped().resolve("chat"), ARRIVED_S)


async def _no_commit() -> None:
    raise AssertionError("nothing here needs to be on record before it begins")
