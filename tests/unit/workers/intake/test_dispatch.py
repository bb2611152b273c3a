"""Whatever becomes of a record, its offset is finished once that is on record, and not before."""

import asyncio

import pytest

from schemas import EventType, JobControl, JobEvent, QosCatalog
from schemas.decode import job_id_of_record
from tests.support.records import TOPICS, FakeRecord, job_bytes, tracked
from tests.support.senders import FakeSender
from workers.engine.null import NullEngine
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.intake.admission import Admission
from workers.intake.cancellations import Cancellations
from workers.intake.dispatch import Dispatcher
from workers.offsets.watermark import AttemptHistory
from workers.reporting.reporter import Reporter

NOW_S = 2000.0
MAX_ATTEMPTS = 3
JOB = FakeRecord(job_bytes(max_tokens=1))
JOB_ID = job_id_of_record(JOB.topic, JOB.partition, JOB.offset)


@pytest.fixture
def in_flight() -> InFlightJobs:
    return InFlightJobs()


@pytest.fixture
def cancellations() -> Cancellations:
    return Cancellations()


@pytest.fixture
async def dispatcher(
    sender: FakeSender, reporter: Reporter, in_flight: InFlightJobs, cancellations: Cancellations
) -> Dispatcher:
    executor = Executor(
        NullEngine("m"),
        in_flight,
        reporter,
        sender,
        commit=_commit,
        on_job_left=lambda: None,
        max_attempts=MAX_ATTEMPTS,
        clock=lambda: NOW_S,
    )
    return Dispatcher(
        Admission("m", QosCatalog.shipped()),
        in_flight,
        executor,
        reporter,
        cancellations,
        max_attempts=MAX_ATTEMPTS,
        clock=lambda: NOW_S,
    )


async def _commit() -> None:
    """Nothing to commit to."""


def _events(sender: FakeSender) -> list[EventType]:
    sent = [record.value or b"" for topic, record in sender.records if topic == TOPICS.events.name]
    return [JobEvent.model_validate_json(value).type for value in sent]


async def test_a_job_that_runs(
    dispatcher: Dispatcher, sender: FakeSender, in_flight: InFlightJobs
) -> None:
    record = tracked(JOB)
    dispatcher.dispatch(record)
    (job,) = in_flight
    assert job.task is not None
    await asyncio.wait_for(job.task, 5)
    assert _events(sender)[-1] is EventType.COMPLETED
    assert record.is_unfinished
    sender.deliver(-1)
    assert not record.is_unfinished


async def test_a_record_that_is_no_job(dispatcher: Dispatcher, sender: FakeSender) -> None:
    record = tracked(FakeRecord(b"nonsense"))
    dispatcher.dispatch(record)
    assert record.is_unfinished
    sender.deliver(0)
    assert not record.is_unfinished
    assert _events(sender) == []


async def test_a_cancelled_job(
    dispatcher: Dispatcher, sender: FakeSender, cancellations: Cancellations
) -> None:
    cancellations.add(JobControl(job_id=JOB_ID, requested_at=NOW_S), NOW_S)
    record = tracked(JOB)
    dispatcher.dispatch(record)
    assert _events(sender) == [EventType.CANCELLED]
    assert record.is_unfinished
    sender.deliver(0)
    assert not record.is_unfinished


async def test_a_job_that_crashed_too_many_workers(
    dispatcher: Dispatcher, sender: FakeSender
) -> None:
    record = tracked(JOB)
    record.pending.history = AttemptHistory(attempts=3, crashes=MAX_ATTEMPTS)
    dispatcher.dispatch(record)
    sender.deliver(0)
    assert _events(sender) == [EventType.FAILED]
    assert record.is_unfinished
    sender.deliver(1)
    assert not record.is_unfinished


async def test_a_record_that_crashes_workers_while_it_is_decoded(
    dispatcher: Dispatcher, sender: FakeSender
) -> None:
    record = tracked(JOB)
    record.pending.history = AttemptHistory(attempts=4, crashes=MAX_ATTEMPTS + 1)
    dispatcher.dispatch(record)
    sender.deliver(0)
    assert _events(sender) == []
    assert not record.is_unfinished


async def test_a_second_record_of_a_running_job(
    dispatcher: Dispatcher, sender: FakeSender, in_flight: InFlightJobs
) -> None:
    first, second = tracked(JOB), tracked(FakeRecord(job_bytes(job_id=str(JOB_ID)), offset=8))
    dispatcher.dispatch(first)
    dispatcher.dispatch(second)
    sender.deliver(0)
    assert not second.is_unfinished
    assert first.is_unfinished
    assert _events(sender) == []
    (job,) = in_flight
    assert job.task is not None
    await asyncio.wait_for(job.task, 5)
