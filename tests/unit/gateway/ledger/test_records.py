"""From Kafka records to the ledger's entries."""

import asyncio
import itertools
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from gateway.ledger.records import (
    PAUSE_INTERVAL_S,
    Cancellation,
    RecordDecoder,
    Report,
    Submission,
    Unusable,
    storable,
)
from schemas import EventType, JobControl, JobRequest, PoolTopics, QosCatalog, TopicSpec
from schemas.decode import job_id_of_record
from schemas.headers import ReceivedHeaders
from schemas.job import MAX_JOB_BYTES
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
    ("value", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[]", "invalid_request"),
        (b'{"job_id":3}', "invalid_request"),
        (b'{"schema_version":2}', "unsupported_schema_version"),
    ],
)
@pytest.mark.parametrize("topic", [TOPICS.events, TOPICS.control])
def test_an_event_or_a_request_that_cannot_be_understood_is_unusable(
    decoder: RecordDecoder, topic: TopicSpec, value: bytes, code: str
) -> None:
    record = a_record(topic, value)

    unusable = decoder.decode(record)

    assert isinstance(unusable, Unusable)
    assert (unusable.record, unusable.error.code) == (record, code)


def test_an_event_of_a_type_that_this_gateway_does_not_know_is_unusable(
    decoder: RecordDecoder,
) -> None:
    document = json.loads(ledger.event(uuid4(), "completed").to_bytes()) | {"type": "teleported"}

    unusable = decoder.decode(a_record(TOPICS.events, json.dumps(document).encode()))

    assert isinstance(unusable, Unusable)
    assert unusable.error.message.startswith("type: Input should be 'admitted'")


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff\xfe", b"[]", b"nothing"])
def test_what_is_nobody_s_job_is_left_to_the_worker(
    decoder: RecordDecoder, value: bytes | None
) -> None:
    assert decoder.decode(a_record(TOPICS.batch, value)) is None


def test_a_tombstone_of_a_compacted_control_topic_is_nothing(decoder: RecordDecoder) -> None:
    assert decoder.decode(a_record(TOPICS.control, None)) is None


@pytest.mark.parametrize("job_id", [{}, {"job_id": 3}, {"job_id": "seven"}])
def test_an_invalid_job_without_an_id_has_that_of_its_position(
    decoder: RecordDecoder, job_id: dict[str, object]
) -> None:
    record = a_record(TOPICS.batch, json.dumps({"model": "m"} | job_id).encode())

    entry = decoder.decode(record)

    assert isinstance(entry, Submission)
    assert entry.job_id == job_id_of_record(TOPICS.batch.name, record.partition, record.offset)


@pytest.mark.parametrize(
    ("fields", "readable"),
    [
        ({"reply_topic": "answers", "tenant": "acme"}, ("answers", "acme", None)),
        ({"reply_topic": "no spaces", "metadata": {"a": "b"}}, (None, None, {"a": "b"})),
        ({"reply_topic": 7, "tenant": None, "metadata": {"a": 1}}, (None, None, None)),
        ({"reply_topic": "a" * 250, "tenant": "", "metadata": []}, (None, None, None)),
    ],
)
@pytest.mark.parametrize("fault", [{"max_tokens": 0}, {"qos": "no-such-class"}])
def test_an_invalid_job_is_answered_as_far_as_it_can_be_read(
    decoder: RecordDecoder,
    fault: dict[str, object],
    fields: dict[str, object],
    readable: tuple[object, ...],
) -> None:
    document = {"model": "m", "prompt": "p", "qos": "chat"} | fault | fields
    if fault.get("qos") and readable != ("answers", "acme", None):
        document["max_tokens"] = 0  # the fields are at fault, too

    entry = decoder.decode(a_record(TOPICS.batch, json.dumps(document).encode()))

    assert isinstance(entry, Submission)
    request = entry.request
    assert (request.reply_topic, request.tenant, request.metadata) == readable


def test_an_event_that_no_worker_can_send_is_unusable(decoder: RecordDecoder) -> None:
    """Of dozens of megabytes, as a compressed batch may have them."""
    value = b'{"a":[%s]}' % b",".join([b"[]"] * 3_000_000)

    unusable = decoder.decode(a_record(TOPICS.events, value))

    assert isinstance(unusable, Unusable)
    assert unusable.error.code == "too_large"


@pytest.mark.parametrize("field", ["unknown", "job_id", "tenant", "metadata"])
def test_what_a_job_that_is_too_large_says_is_not_made_into_objects(
    decoder: RecordDecoder, field: str
) -> None:
    """Millions of empty lists fit into a record, and cost seconds and gigabytes."""
    value = b'{"reply_topic":"answers","%s":[%s]}' % (field.encode(), b",".join([b"[]"] * 400_000))
    assert len(value) > MAX_JOB_BYTES
    record = a_record(TOPICS.batch, value)

    tracemalloc.start()
    try:
        entry = decoder.decode(record)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(entry, Submission)
    assert entry.request.reply_topic == "answers"
    assert peak_bytes < len(value)


async def test_others_get_their_turn_between_records() -> None:
    """A thousand records of 60 kB may take half a minute, whichever topic they are in."""
    times_s = itertools.count(step=PAUSE_INTERVAL_S)
    decoder = RecordDecoder(TOPICS, QosCatalog.shipped(), "tiny", clock=lambda: next(times_s))
    decoding = asyncio.create_task(decoder.decode_all([a_record(TOPICS.batch, b"{}")] * 5))
    turns = 0
    while not decoding.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 5
    assert len((await decoding).entries) == 5


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


@pytest.mark.parametrize("year", [1, 2026, 9999])
def test_a_cancellation_counts_from_its_arrival_whatever_it_says(
    decoder: RecordDecoder, year: int
) -> None:
    control = JobControl(job_id=uuid4(), requested_at=datetime(year, 6, 1, tzinfo=UTC))

    entry = decoder.decode(a_record(TOPICS.control, control.to_bytes()))

    assert entry == Cancellation(control.job_id, ARRIVED_AT)


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"{", "invalid_json"), (b"{}", "invalid_request"), (bytes(8_000_000), "too_large")],
)
def test_what_is_no_request_to_cancel_is_unusable(
    decoder: RecordDecoder, value: bytes, code: str
) -> None:
    entry = decoder.decode(a_record(TOPICS.control, value))

    assert isinstance(entry, Unusable)
    assert entry.error.code == code


def test_a_tombstone_in_the_control_topic_is_nothing(decoder: RecordDecoder) -> None:
    assert decoder.decode(a_record(TOPICS.control, None)) is None


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
