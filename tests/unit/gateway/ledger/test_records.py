"""From Kafka records to the ledger's entries."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from gateway.ledger.records import Cancellation, RecordDecoder, Report, Submission, storable
from schemas import EventType, JobControl, JobRequest, PoolTopics, QosCatalog, TopicSpec
from schemas.decode import job_id_of_record
from schemas.headers import ReceivedHeaders
from tests.support import ledger
from tests.support.records import TRACEPARENT, FakeRecord

TOPICS = PoolTopics.of("tiny")
ARRIVED_MS = 1_795_000_000_123
ARRIVED_AT = datetime(2026, 11, 18, 11, 6, 40, 123000, UTC)


def a_record(topic: TopicSpec, value: bytes | None, headers: ReceivedHeaders = ()) -> FakeRecord:
    return FakeRecord(value, topic.name, timestamp=ARRIVED_MS, headers=headers)


@pytest.fixture
def decoder() -> RecordDecoder:
    return RecordDecoder(TOPICS, QosCatalog.shipped(), "tiny")


def a_job(**changes: object) -> JobRequest:
    return JobRequest.model_validate({"model": "m", "prompt": "p", "qos": "chat"} | changes)


def test_a_job_arrives_when_its_record_was_published(decoder: RecordDecoder) -> None:
    job = a_job(job_id=str(uuid4()), metadata={"a": "b"}, expire_after_s=2.5)

    entry = decoder.decode(a_record(TOPICS.interactive, job.to_bytes()))

    assert isinstance(entry, Submission)
    assert entry.job_id == job.job_id
    assert entry.request.arrived_at == ARRIVED_AT
    assert entry.request.deadline_at == ARRIVED_AT + timedelta(seconds=1)
    assert entry.request.qos_class == "chat"
    assert entry.request.metadata == {"a": "b"}
    assert entry.request.expire_after_s == 2.5


def test_a_job_without_an_id_gets_the_one_that_the_worker_gives_it(decoder: RecordDecoder) -> None:
    record = a_record(TOPICS.batch, a_job(qos={"ttlt_s": 60}).to_bytes())

    entry = decoder.decode(record)

    assert isinstance(entry, Submission)
    assert entry.job_id == job_id_of_record(TOPICS.batch.name, record.partition, record.offset)
    assert entry.request.deadline_at == ARRIVED_AT + timedelta(seconds=60)


@pytest.mark.parametrize("change", [{"qos": "no-such-class"}, {"unknown": 1}, {"max_tokens": 0}])
def test_an_invalid_job_with_an_id_is_known_to_have_arrived(
    decoder: RecordDecoder, change: dict[str, object]
) -> None:
    job_id = uuid4()
    document = {"job_id": str(job_id), "model": "m", "prompt": "p", "qos": "chat"} | change

    entry = decoder.decode(a_record(TOPICS.batch, json.dumps(document).encode()))

    assert isinstance(entry, Submission)
    assert entry.job_id == job_id
    assert entry.request.arrived_at == ARRIVED_AT
    assert entry.request.model is None


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"\xff\xfe", b"[]", b"nothing", b'{"job_id":3}']
)
@pytest.mark.parametrize("topic", [TOPICS.batch, TOPICS.events, TOPICS.control])
def test_what_cannot_be_understood_is_skipped(
    decoder: RecordDecoder, topic: TopicSpec, value: bytes | None
) -> None:
    assert decoder.decode(a_record(topic, value)) is None


def test_a_record_with_an_impossible_time_is_skipped(decoder: RecordDecoder) -> None:
    record = a_record(TOPICS.batch, a_job().to_bytes())

    assert decoder.decode(replace(record, timestamp=2**62)) is None


@pytest.mark.parametrize("broken", [None, b"", b"00-1-2-01", b"a=\x00"])
def test_a_broken_trace_context_is_left_out(decoder: RecordDecoder, broken: bytes | None) -> None:
    event = ledger.event(uuid4(), "completed")
    headers = [("traceparent", broken)]

    entry = decoder.decode(a_record(TOPICS.events, event.to_bytes(), headers=headers))

    assert isinstance(entry, Report)
    assert entry.trace == []


def test_a_report_keeps_the_event_byte_for_byte_with_its_trace(decoder: RecordDecoder) -> None:
    event = ledger.event(uuid4(), "completed")
    value = json.dumps(json.loads(event.to_bytes()), indent=1).encode()
    headers = [
        ("traceparent", TRACEPARENT),
        ("other", b"x"),
    ]

    entry = decoder.decode(a_record(TOPICS.events, value, headers=headers))

    assert entry == Report(event, value, [("traceparent", TRACEPARENT)])


def test_a_cancellation_is_read_from_the_control_topic(decoder: RecordDecoder) -> None:
    control = JobControl(job_id=uuid4(), requested_at=ARRIVED_AT)

    entry = decoder.decode(a_record(TOPICS.control, control.to_bytes()))

    assert entry == Cancellation(control.job_id, ARRIVED_AT)


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\0\0\0",
        "\\\0",
        "\\\\\0x",
        "\\u0000",
        "\\\\u0000",
        "no such thing",
        "\\\\\\\0",
    ],
)
def test_only_nul_characters_are_replaced(text: str) -> None:
    encoded = json.dumps({"text": text}).encode()

    assert json.loads(storable(encoded) or b"") == {"text": text.replace("\0", "\ufffd")}


def test_events_lose_their_nul_characters_and_replies_keep_them(decoder: RecordDecoder) -> None:
    result = {"text": "a\0b", "finish_reason": "stop"}
    value = ledger.event(uuid4(), "completed", result=result).to_bytes()

    entry = decoder.decode(a_record(TOPICS.events, value))

    assert isinstance(entry, Report)
    assert entry.event.result is not None
    assert entry.event.result.text == "a\ufffdb"
    assert entry.value == value
    assert entry.event.type is EventType.COMPLETED
    assert isinstance(entry.event.job_id, UUID)
