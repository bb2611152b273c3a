"""What a worker reports of a job that has expired."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from schemas import EventType, JobEvent, JobRequest, QosCatalog, Usage
from tests.support.consumer_group import FakeConsumer, FakeGroup, partitions_of
from tests.support.records import FakeRecord, tracked
from tests.support.senders import FakeSender
from workers.engine.null import NullEngine
from workers.engine.port import (
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    NotPrepared,
    PreparedRequest,
)
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.job import Job, qos_of
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter

ARRIVED_S = 1000.0
REASON = "prefill had not started 30 s after arrival"


class ExpiringEngine(NullEngine):
    """Gives every request up, like a scheduler with too much to do."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        assert request.qos.expires_s == ARRIVED_S + 30
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        forecast = Forecast(queue_wait_s=60.0, finish_s=ARRIVED_S + 90)
        decision = Decision(prepared.request_id, DecisionKind.EXPIRED, 1030.1, REASON, forecast)
        yield GenerationUpdate("", (), 7, 0, 0, FinishReason.EXPIRED, ended_by=decision)


async def test_a_job_that_expires_ends_with_reason_prediction_and_usage(
    sender: FakeSender, reporter: Reporter, attempt: JobAttempt
) -> None:
    in_flight = InFlightJobs()
    left: list[int] = []
    executor = Executor(
        ExpiringEngine(),
        in_flight,
        reporter,
        partitions=partitions_of(FakeConsumer(FakeGroup())),
        on_job_left=lambda: left.append(len(in_flight)),
        clock=lambda: 1030.2,
    )
    record = tracked(FakeRecord(offset=7))
    job = in_flight.add(_job(), record, attempt)

    executor.start(job)
    assert job.task is not None
    await job.task

    admitted, end = map(JobEvent.model_validate_json, sender.values())
    assert (admitted.type, end.type) == (EventType.ADMITTED, EventType.EXPIRED)
    assert end.reason == REASON
    assert end.prediction is not None
    assert end.prediction.finish_at == datetime.fromtimestamp(ARRIVED_S + 90, UTC)
    assert end.prediction.deadline_at == datetime.fromtimestamp(ARRIVED_S + 1, UTC)
    assert end.usage == Usage(prompt_tokens=7)
    assert (end.result, end.error) == (None, None)
    assert record.is_unfinished
    assert not left
    sender.deliver(-1)
    assert not record.is_unfinished
    assert len(in_flight) == 0
    assert left == [0]


def _job() -> Job:
    request = JobRequest(model="null", prompt="p", qos="chat", expire_after_s=30)
    targets = QosCatalog.shipped().resolve("chat")
    return Job(uuid4(), request, qos_of(request, targets, ARRIVED_S))


class TalkativeEngine(NullEngine):
    """Generates more than a result may have."""

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        yield GenerationUpdate("much", (1,), 7, 1, 0)
        yield GenerationUpdate("", (), 7, 2, 0, FinishReason.TOO_LARGE)


async def test_a_job_whose_result_is_too_large_fails_and_says_what_to_ask_for(
    sender: FakeSender, reporter: Reporter, attempt: JobAttempt
) -> None:
    in_flight = InFlightJobs()
    executor = Executor(
        TalkativeEngine(),
        in_flight,
        reporter,
        partitions=partitions_of(FakeConsumer(FakeGroup())),
        on_job_left=lambda: None,
        clock=lambda: 1000.2,
    )
    job = in_flight.add(_job(), tracked(FakeRecord()), attempt)
    executor.start(job)
    assert job.task is not None
    await job.task
    *_, end = map(JobEvent.model_validate_json, sender.values())
    assert end.error is not None
    assert (end.type, end.error.code, end.result) == (EventType.FAILED, "too_large", None)
    assert "fewer log probabilities" in end.error.message
    assert end.usage == Usage(prompt_tokens=7, completion_tokens=2)


class ImpatientEngine(NullEngine):
    """Gives requests up before they are prepared."""

    def __init__(self, ended_by: Decision | None) -> None:
        super().__init__()
        self._ended_by = ended_by

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        raise NotPrepared("while it waited", self._ended_by)


@pytest.mark.parametrize(
    ("ended_by", "kind", "reason"),
    [
        (None, EventType.CANCELLED, "changed my mind"),
        (Decision("r", DecisionKind.EXPIRED, 1030.1, REASON), EventType.EXPIRED, REASON),
    ],
)
async def test_a_job_that_ends_before_it_is_prepared(
    sender: FakeSender,
    reporter: Reporter,
    attempt: JobAttempt,
    ended_by: Decision | None,
    kind: EventType,
    reason: str,
) -> None:
    in_flight = InFlightJobs()
    executor = Executor(
        ImpatientEngine(ended_by),
        in_flight,
        reporter,
        partitions=partitions_of(FakeConsumer(FakeGroup())),
        on_job_left=lambda: None,
        clock=lambda: 1030.2,
    )
    job = in_flight.add(_job(), tracked(FakeRecord()), attempt)
    job.cancel_reason = "changed my mind"
    executor.start(job)
    assert job.task is not None
    await job.task
    (end,) = map(JobEvent.model_validate_json, sender.values())
    assert (end.type, end.reason) == (kind, reason)
