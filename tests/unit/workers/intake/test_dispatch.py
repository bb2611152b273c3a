"""Whatever becomes of a record, its offset is finished once that is on record, and not before."""

import asyncio
import json
import logging
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niyama.log_lines import LineFormatter
from niyama.telemetry.measurements import Measurements
from schemas import EventType, JobControl, JobEvent, QosCatalog, headers
from schemas.decode import job_id_of_record
from schemas.event import Source
from tests.support.consumer_group import FakeConsumer, FakeGroup, partitions_of
from tests.support.metrics import numbers
from tests.support.records import TOPICS, TRACEPARENT, FakeRecord, job_bytes, tracked
from tests.support.senders import FakeSender
from workers.engine.null import NullEngine
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import JobMetrics
from workers.intake.admission import Admission
from workers.intake.cancellations import Cancellations
from workers.intake.dispatch import Dispatcher
from workers.offsets.attempts import AttemptHistory, CrashLimit
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
    return _dispatcher(sender, reporter, in_flight, cancellations)


def _dispatcher(
    sender: FakeSender,
    reporter: Reporter,
    in_flight: InFlightJobs,
    cancellations: Cancellations,
    measurements: Measurements | None = None,
) -> Dispatcher:
    executor = Executor(
        NullEngine("m"),
        in_flight,
        reporter,
        partitions=partitions_of(FakeConsumer(FakeGroup())),
        on_job_left=lambda: None,
        clock=lambda: NOW_S,
    )
    return Dispatcher(
        Admission("m", QosCatalog.shipped()),
        in_flight,
        executor,
        reporter,
        cancellations,
        crash_limit=CrashLimit(MAX_ATTEMPTS),
        clock=lambda: NOW_S,
        metrics=JobMetrics(measurements, "m", "g", lambda: NOW_S) if measurements else None,
    )


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
    await asyncio.wait_for(job.task, 60)
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


async def test_the_log_names_the_job_and_the_trace_of_a_record_that_is_refused(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[dict[str, str]] = []
    formatter = LineFormatter(None)
    caplog.set_level("INFO", "workers.reporting.reporter")

    def note(logged: logging.LogRecord) -> bool:
        lines.append(json.loads(formatter.format(logged)))
        return True

    document = job_bytes(model="another")
    record = FakeRecord(document, headers=[("traceparent", TRACEPARENT)])
    caplog.handler.addFilter(note)
    try:
        dispatcher.dispatch(tracked(record))
    finally:
        caplog.handler.removeFilter(note)  # the handler is that of every test
    (line,) = lines
    assert line["job_id"] == str(JOB_ID)
    assert line["trace_id"] == TRACEPARENT.decode().split("-")[1]


async def test_a_cancelled_job(
    dispatcher: Dispatcher, sender: FakeSender, cancellations: Cancellations
) -> None:
    cancellations.add(JobControl(job_id=JOB_ID, requested_at=NOW_S))
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
    record.pending.history = AttemptHistory(attempts=5, crashes=5, trial_crashes=MAX_ATTEMPTS)
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
    record.pending.history = AttemptHistory(attempts=6, crashes=6, trial_crashes=MAX_ATTEMPTS + 1)
    dispatcher.dispatch(record)
    sender.deliver(0)
    assert _events(sender) == []
    assert not record.is_unfinished


def _sources(sender: FakeSender, kind: EventType) -> list[int]:
    """Offsets of the records that events of this kind are about."""
    sent = [record.value or b"" for topic, record in sender.records if topic == TOPICS.events.name]
    events = map(JobEvent.model_validate_json, sent)
    return [event.source.offset for event in events if event.source and event.type is kind]


async def test_a_second_record_of_a_job_is_refused_whether_it_runs_or_has_ended(
    dispatcher: Dispatcher, sender: FakeSender, in_flight: InFlightJobs
) -> None:
    first = tracked(JOB)
    second, third = (
        tracked(FakeRecord(job_bytes(job_id=str(JOB_ID)), offset=offset)) for offset in (8, 9)
    )
    dispatcher.dispatch(first)
    dispatcher.dispatch(second)
    (job,) = in_flight
    assert job.task is not None
    await asyncio.wait_for(job.task, 60)
    sender.deliver(-1)
    assert not first.is_unfinished
    dispatcher.dispatch(third)

    letters = [
        number
        for number, (topic, letter) in enumerate(sender.records)
        if topic == TOPICS.dead_letters.name
        and (headers.REASON_CODE, b"duplicate_job_id") in letter.headers
    ]
    for number in letters:
        sender.deliver(number)
    assert _sources(sender, EventType.COMPLETED) == [JOB.offset]
    assert _sources(sender, EventType.FAILED) == [8, 9]
    sender.deliver(-1)
    sender.deliver(-2)
    assert not second.is_unfinished
    assert not third.is_unfinished


@pytest.mark.parametrize("changes", [{}, {"model": "another"}])
async def test_the_refusal_of_a_second_record_names_the_first(
    dispatcher: Dispatcher, sender: FakeSender, changes: dict[str, str]
) -> None:
    """Also if it is no valid job: the ledger may read the refusal before the job's record."""
    second = FakeRecord(job_bytes(job_id=str(JOB_ID), **changes), offset=8)
    dispatcher.dispatch(tracked(JOB))
    dispatcher.dispatch(tracked(second))
    sender.deliver(-1)

    topic, sent = sender.records[-1]
    refusal = JobEvent.model_validate_json(sent.value or b"")
    assert (topic, refusal.type) == (TOPICS.events.name, EventType.FAILED)
    assert refusal.source == Source(topic=second.topic, partition=second.partition, offset=8)
    assert refusal.duplicate_of == Source(
        topic=JOB.topic, partition=JOB.partition, offset=JOB.offset
    )


async def test_a_redelivered_record_runs_again(
    dispatcher: Dispatcher, sender: FakeSender, in_flight: InFlightJobs
) -> None:
    for _ in range(2):
        dispatcher.dispatch(tracked(JOB))
        (job,) = in_flight
        assert job.task is not None
        await asyncio.wait_for(job.task, 60)
        sender.deliver(-1)

    assert _sources(sender, EventType.COMPLETED) == [JOB.offset] * 2


async def test_a_record_that_may_be_the_older_one_runs_beside_the_other(
    dispatcher: Dispatcher, sender: FakeSender, in_flight: InFlightJobs
) -> None:
    """The worker has read an interactive job before the batch job that waited longer."""
    waited = FakeRecord(job_bytes(job_id=str(JOB_ID)), TOPICS.batch.name, offset=2)
    dispatcher.dispatch(tracked(JOB))
    dispatcher.dispatch(tracked(waited))

    assert len(in_flight) == 2
    for job in in_flight:
        assert job.task is not None
        await asyncio.wait_for(job.task, 60)
        in_flight.remove(job)
    assert sorted(_sources(sender, EventType.COMPLETED)) == [2, JOB.offset]
    assert len(in_flight) == len(in_flight.by_job(JOB_ID)) == 0


async def test_every_event_of_a_malformed_record_names_it(
    dispatcher: Dispatcher, sender: FakeSender
) -> None:
    dispatcher.dispatch(tracked(JOB))
    dispatcher.dispatch(tracked(FakeRecord(job_bytes(job_id=str(JOB_ID), max_tokens=0), offset=8)))
    dispatcher.dispatch(tracked(FakeRecord(job_bytes(job_id=str(JOB_ID), model="x"), offset=9)))
    for number, (topic, _) in enumerate(list(sender.records)):
        if topic == TOPICS.dead_letters.name:
            sender.deliver(number)

    assert _sources(sender, EventType.FAILED) == [8, 9]


async def test_what_one_record_raises_refuses_that_record_only(
    dispatcher: Dispatcher, sender: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tracked(JOB)
    with monkeypatch.context() as broken:
        broken.setattr(Admission, "admit", lambda *_: 1 / 0)
        dispatcher.dispatch(record)
    ((topic, letter),) = sender.records
    assert topic == TOPICS.dead_letters.name
    assert (headers.REASON_CODE, b"internal_error") in letter.headers
    assert record.is_unfinished
    sender.deliver(0)
    assert not record.is_unfinished


async def test_a_job_that_is_refused_has_missed_its_deadline_and_a_second_record_is_no_job(
    sender: FakeSender,
    reporter: Reporter,
    in_flight: InFlightJobs,
    cancellations: Cancellations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measurements = Measurements()
    dispatcher = _dispatcher(sender, reporter, in_flight, cancellations, measurements)

    def ended() -> dict[tuple[str, ...], float]:
        return numbers(measurements, "niyama.jobs.ended")

    second = FakeRecord(job_bytes(job_id=str(JOB_ID)), offset=8)
    for record in (FakeRecord(b"nonsense"), JOB, second):
        dispatcher.dispatch(tracked(record))
    assert ended() == {}
    dispatcher.dispatch(tracked(FakeRecord(job_bytes(job_id=str(uuid4()), model="x"), offset=9)))
    assert ended() == {("false",): 1}
    crashed = tracked(FakeRecord(job_bytes(job_id=str(uuid4())), offset=10))
    crashed.pending.history = AttemptHistory(attempts=5, crashes=5, trial_crashes=MAX_ATTEMPTS)
    dispatcher.dispatch(crashed)
    assert ended() == {("false",): 1, ("false", "interactive", "chat", "default"): 1}
    monkeypatch.setattr(Admission, "admit", lambda *_: 1 / 0)
    dispatcher.dispatch(tracked(FakeRecord(job_bytes(), offset=11)))
    assert ended()["false",] == 2


@given(
    value=st.none() | st.binary(max_size=300) | st.just(JOB.value),
    key=st.none() | st.binary(max_size=50),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    record_headers=st.lists(
        st.tuples(st.text(max_size=9) | st.just("traceparent"), st.none() | st.binary(max_size=99)),
        max_size=4,
    ),
)
async def test_no_envelope_leaves_the_dispatcher_as_an_exception(
    value: bytes | None,
    key: bytes | None,
    timestamp: int,
    record_headers: list[tuple[str, bytes | None]],
) -> None:
    sender, in_flight = FakeSender(), InFlightJobs()
    reporter = Reporter(sender, TOPICS, worker_id="w", pool="p", clock=lambda: NOW_S)
    dispatcher = _dispatcher(sender, reporter, in_flight, Cancellations())
    record = FakeRecord(value, timestamp=timestamp, key=key, headers=record_headers)
    dispatcher.dispatch(tracked(record))
    for job in in_flight:
        assert job.task is not None
        await job.task
    for _, sent in sender.records:
        assert all(isinstance(value, bytes) for _, value in sent.headers)
    assert (headers.REASON_CODE, b"internal_error") not in sender.records[0][1].headers
