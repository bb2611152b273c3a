"""Events are delivered whatever happens; of tokens and dead letters, what their topics take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from niyama.errors import UnavailableError
from tests.support.producers import FakeProducer, settle
from workers.reporting import exact_sender, topic_sender
from workers.reporting.batch_sender import BatchSender
from workers.reporting.best_effort_sender import BestEffortSender
from workers.reporting.exact_sender import ExactSender
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.topic_sender import TopicSender


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_sender, "LINGER_S", 0)
    monkeypatch.setattr(topic_sender, "REST_S", 0)


@pytest.fixture
def producer() -> FakeProducer:
    return FakeProducer()


@pytest.fixture
def events(producer: FakeProducer) -> ExactSender:
    return ExactSender(producer, "events")


@pytest.fixture
def tokens(producer: FakeProducer) -> BestEffortSender:
    return BestEffortSender(producer, "tokens", budget_bytes=4_000, consequence="gaps")


async def always() -> None:
    """Nothing has to be waited for."""


@asynccontextmanager
async def _running(sender: TopicSender) -> "AsyncIterator[asyncio.Task[None]]":
    await sender.open()
    task = asyncio.create_task(sender.run(always))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


class Outcomes(list[bytes]):
    """The values of the records that need no more care, in order."""

    def record(self, value: bytes, key: bytes = b"k") -> OutgoingRecord:
        return OutgoingRecord(key, value, 0, on_delivered=lambda: self.append(value))


async def test_what_accumulates_during_a_delivery_is_the_next_batch(
    events: ExactSender, producer: FakeProducer
) -> None:
    outcomes = Outcomes()
    async with _running(events):
        events.put(outcomes.record(b"1"))
        await settle()
        for value in (b"2", b"3"):
            events.put(outcomes.record(value))
        await settle()
        assert producer.sent == [[b"1"]]
        await producer.deliveries[0].succeed()
        assert (outcomes, producer.sent[1:]) == ([b"1"], [[b"2", b"3"]])
        await producer.deliveries[1].succeed()
        await events.flush()
    assert outcomes == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    "passes",
    [
        NotLeaderForPartitionError(),
        InvalidTimestampError(),  # this machine's clock is ahead
    ],
)
async def test_events_are_sent_again_in_order_after_what_passes(
    events: ExactSender, producer: FakeProducer, passes: KafkaError
) -> None:
    outcomes = Outcomes()
    async with _running(events):
        events.put(outcomes.record(b"1"))
        await settle()
        events.put(outcomes.record(b"2"))
        await producer.deliveries[0].fail(passes)
        await settle()
        assert producer.sent[1:] == [[b"1", b"2"]]
        await producer.deliveries[1].succeed()
    assert outcomes == [b"1", b"2"]
    assert events.empty


async def test_what_is_superseded_is_not_sent_and_needs_no_more_care(
    events: ExactSender, producer: FakeProducer
) -> None:
    outcomes = Outcomes()
    async with _running(events):
        events.put(replace(outcomes.record(b"late"), is_superseded=lambda: True))
        events.put(outcomes.record(b"ours"))
        await settle()
        assert (outcomes, producer.sent) == ([b"late"], [[b"ours"]])


async def test_a_delivery_that_is_cancelled_has_failed(
    events: ExactSender, producer: FakeProducer
) -> None:
    async with _running(events):
        events.put(Outcomes().record(b"1"))
        await settle()
        await producer.deliveries[0].cancel()
        await settle()
        assert producer.sent == [[b"1"], [b"1"]]


async def test_events_that_kafka_rejects_for_good_end_the_worker(
    events: ExactSender, producer: FakeProducer
) -> None:
    async with _running(events) as task:
        events.put(Outcomes().record(b"1"))
        await settle()
        await producer.deliveries[0].fail(TopicAuthorizationFailedError("events"))
        with pytest.raises(UnavailableError, match="events"):
            await task


async def test_a_record_that_is_too_large_is_replaced_and_no_other_is_lost(
    events: ExactSender, producer: FakeProducer
) -> None:
    outcomes = Outcomes()
    small = outcomes.record(b"small")
    large = OutgoingRecord(b"k", b"large" * 1000, 0, smaller=lambda: small)
    async with _running(events):
        for record in (outcomes.record(b"1"), large, outcomes.record(b"3")):
            events.put(record)
        await settle()
        await producer.deliveries[0].fail(MessageSizeTooLargeError())
        await settle()
        await producer.deliveries[1].succeed()
        await producer.deliveries[2].fail(MessageSizeTooLargeError())
        await settle()
        await producer.deliveries[3].succeed()
        await producer.deliveries[4].succeed()
        await events.flush()
    assert producer.sent[1:] == [[b"1"], [b"large" * 1000], [b"small"], [b"3"]]
    assert outcomes == [b"1", b"small", b"3"]


async def test_events_fill_up_while_nobody_takes_them(
    events: ExactSender, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_sender, "FULL_BYTES", 1_000)
    async with _running(events):
        events.put(Outcomes().record(bytes(2_000)))
        assert events.full
        await settle()
        await producer.deliveries[0].succeed()
        assert not events.full


async def test_one_failing_callback_concerns_its_own_record_only(
    events: ExactSender, producer: FakeProducer
) -> None:
    def fail() -> None:
        raise RuntimeError("of the first record")

    outcomes = Outcomes()
    async with _running(events):
        events.put(OutgoingRecord(b"k", b"1", 0, on_delivered=fail))
        events.put(outcomes.record(b"2"))
        await settle()
        await producer.deliveries[0].succeed()
    assert outcomes == [b"2"]


async def test_tokens_of_a_partition_without_a_leader_are_lost_and_counted(
    tokens: BestEffortSender, producer: FakeProducer, caplog: pytest.LogCaptureFixture
) -> None:
    async with _running(tokens) as task:
        tokens.put(Outcomes().record(b"1"))
        await settle()
        await producer.deliveries[0].fail(NotLeaderForPartitionError())
        tokens.put(Outcomes().record(b"2"))
        await settle()
        await producer.deliveries[1].succeed()
        assert not task.done()
    assert (tokens.given_up, tokens.empty) == (1, True)
    assert "1 records for tokens could not be delivered" in caplog.text


async def test_tokens_for_a_topic_that_is_gone_are_lost_until_it_is_back(
    tokens: BestEffortSender, producer: FakeProducer
) -> None:
    async with _running(tokens) as task:
        producer.unknown_topic = UnknownTopicOrPartitionError()
        tokens.put(Outcomes().record(b"1"))
        await settle()
        producer.unknown_topic = None
        tokens.put(Outcomes().record(b"2"))
        await settle()
        assert producer.sent == [[b"2"]]
        assert not task.done()
    assert tokens.given_up == 1


async def test_tokens_wait_while_kafka_is_away_and_the_newest_survive(
    tokens: BestEffortSender, producer: FakeProducer
) -> None:
    values = [bytes([number]) * 800 for number in range(6)]
    async with _running(tokens):
        tokens.put(Outcomes().record(values[0]))
        await settle()
        for value in values[1:]:
            tokens.put(Outcomes().record(value))
        await producer.deliveries[0].fail(KafkaConnectionError())
        await settle()
        await producer.deliveries[-1].succeed()
    # The budget of 4,000 bytes has room for three records beside the batch in flight.
    assert producer.sent[-1] == [values[0], *values[3:]]
    assert tokens.given_up == 2


async def test_a_record_larger_than_the_budget_is_sent_alone(
    tokens: BestEffortSender, producer: FakeProducer
) -> None:
    async with _running(tokens):
        tokens.put(Outcomes().record(bytes(9_000)))
        await settle()
        assert producer.sent == [[bytes(9_000)]]


async def test_a_dead_letter_that_is_given_up_lets_its_job_fail(
    tokens: BestEffortSender, producer: FakeProducer
) -> None:
    outcomes = Outcomes()
    async with _running(tokens):
        tokens.put(outcomes.record(b"letter"))
        await settle()
        await producer.deliveries[0].fail(UnknownTopicOrPartitionError())
    assert outcomes == [b"letter"]


async def test_a_topic_that_has_fewer_partitions_again_gets_everything(
    producer: FakeProducer,
) -> None:
    producer.partitions = {0, 1, 2}
    events, outcomes = ExactSender(producer, "events"), Outcomes()
    async with _running(events):
        producer.partitions = {0}
        keys = [f"key-{number}".encode() for number in range(20)]
        for key in keys:
            events.put(outcomes.record(key, key))
        await settle()
        while len(outcomes) < len(keys):
            for delivery in producer.deliveries:
                if not delivery.future.done():
                    await delivery.succeed()
            await settle()
    assert sorted(outcomes) == sorted(keys)
    assert events.empty


async def test_events_are_delivered_while_no_token_is() -> None:
    of_events, of_tokens = FakeProducer(), FakeProducer()
    events = ExactSender(of_events, "events")
    tokens = BestEffortSender(of_tokens, "tokens", budget_bytes=4_000, consequence="gaps")
    sender, outcomes = BatchSender(events, tokens), Outcomes()
    for each in (events, tokens):
        await each.open()
    task = asyncio.create_task(sender.run(always))
    for number in range(1_000):
        sender.put("tokens", Outcomes().record(bytes(1_000)))
        sender.put("events", outcomes.record(str(number).encode()))
    await settle()
    await of_events.deliveries[0].succeed()
    assert len(outcomes) == 1_000
    assert len(of_tokens.deliveries) == 1
    assert tokens.given_up > 900
    assert not sender.full
    task.cancel()
    await asyncio.wait([task])
