"""Replies reach their topics exactly once, for read-committed consumers."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.ledger.reply_outbox import Reply
from gateway.replies import relay
from gateway.replies.relay import ReplyRelay
from gateway.settings import GatewaySettings
from tests.support.records import TRACEPARENT
from tests.support.wire import published

pytestmark = pytest.mark.usefixtures("wire")  # the topics exist


class DiedError(Exception):
    """Stands for a crash: nothing after it is carried out."""


@pytest.fixture
def answers(topic_prefix: str) -> str:
    """A reply topic of the test's own. It does not exist."""
    return f"niyama-replies.{topic_prefix}"


@asynccontextmanager
async def relaying(settings: GatewaySettings) -> AsyncIterator[ReplyRelay]:
    running = ReplyRelay(settings)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stop()
        await asyncio.wait_for(task, 20)


async def add_replies(
    postgres: asyncpg.Connection, topic: str | None, values: Sequence[bytes]
) -> list[UUID]:
    jobs = [uuid4() for _ in values]
    await postgres.executemany(
        "INSERT INTO reply_outbox (job_id, reply_topic, value, headers) VALUES ($1, $2, $3, $4)",
        [
            (
                job_id,
                topic,
                value,
                json.dumps([["traceparent", TRACEPARENT.decode()]]),
            )
            for job_id, value in zip(jobs, values, strict=True)
        ],
    )
    return jobs


async def until_empty(postgres: asyncpg.Connection) -> None:
    async with asyncio.timeout(30):
        while await postgres.fetchval("SELECT count(*) FROM reply_outbox"):
            await asyncio.sleep(0.05)


async def test_a_reply_is_the_event_with_its_trace_in_a_topic_that_is_made_for_it(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    (job_id,) = await add_replies(postgres, answers, [b'{"the": "event"}'])
    await add_replies(postgres, None, [b"held"])

    async with relaying(settings):
        async with asyncio.timeout(30):
            while await postgres.fetchval("SELECT count(*) FROM reply_outbox") > 1:
                await asyncio.sleep(0.05)

    (record,) = await published(settings, answers)
    assert record.value == b'{"the": "event"}'
    assert record.key == str(job_id).encode()
    assert record.headers == (("traceparent", TRACEPARENT),)


async def test_many_replies_go_in_several_batches(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    values = [f"reply {number}".encode() for number in range(1100)]
    await add_replies(postgres, answers, values)
    await add_replies(postgres, answers, [b"x" * 500_000 for _ in range(10)])

    async with relaying(settings):
        await until_empty(postgres)

    sent = [record.value for record in await published(settings, answers)]
    assert sorted(value for value in sent if len(value) < 100) == sorted(values)
    assert len(sent) == 1110


@pytest.mark.parametrize("crash", ["before the transaction", "in the transaction", "after it"])
async def test_a_crash_of_the_relay_neither_loses_nor_repeats_a_reply(
    settings: GatewaySettings,
    postgres: asyncpg.Connection,
    answers: str,
    crash: str,
) -> None:
    await add_replies(postgres, answers, [b"first"])
    async with relaying(settings):
        await until_empty(postgres)
    await add_replies(postgres, answers, [b"second", b"third"])

    with pytest.raises(DiedError):
        await asyncio.wait_for(_Dying(settings, crash).run(), 30)
    numbered = await postgres.fetchval("SELECT count(*) FROM reply_outbox WHERE batch IS NOT NULL")
    await add_replies(postgres, answers, [b"fourth"])
    async with relaying(settings):
        await until_empty(postgres)

    assert numbered == 2  # it died before it deleted the batch
    sent = sorted(record.value for record in await published(settings, answers))
    assert sent == [b"first", b"fourth", b"second", b"third"]


class _Dying(ReplyRelay):
    """Dies at one point, as a process does: without tidying up."""

    def __init__(self, settings: GatewaySettings, crash: str) -> None:
        super().__init__(settings)
        self._crash = crash

    async def _publish(
        self, producer: AIOKafkaProducer, replies: Sequence[Reply], number: int
    ) -> None:
        if self._crash == "in the transaction":
            await producer.begin_transaction()
            await relay._send(producer, replies)
        elif self._crash == "after it":
            await super()._publish(producer, replies, number)
        raise DiedError


async def test_a_reply_that_kafka_refuses_waits_and_holds_up_no_other(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    narrow = f"{answers}.narrow"
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(narrow, 1, 1, topic_configs={"max.message.bytes": "500"})])
    await admin.close()
    (too_large,) = await add_replies(postgres, narrow, [b"x" * 5000])
    (nameless,) = await add_replies(postgres, "no/such/name", [b"x"])
    await add_replies(postgres, answers, [b"fine"] * 20)

    async with relaying(settings):
        async with asyncio.timeout(30):
            while await postgres.fetchval("SELECT count(*) FROM reply_outbox WHERE error IS NULL"):
                await asyncio.sleep(0.05)

    assert len(await published(settings, answers)) == 20
    kept = await postgres.fetch("SELECT * FROM reply_outbox")
    errors = {row["job_id"]: row["error"] for row in kept}
    assert errors.keys() == {too_large, nameless}
    assert "MessageSizeTooLarge" in errors[too_large]
    assert "InvalidTopic" in errors[nameless]
    assert all(row["attempts"] >= 1 and row["next_try_at"] > row["written_at"] for row in kept)


async def test_one_gateway_at_a_time_is_the_relay_and_another_takes_over(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    async with relaying(settings):
        await add_replies(postgres, answers, [b"first"])
        await until_empty(postgres)
        second = ReplyRelay(settings)
        task = asyncio.create_task(second.run())
        await add_replies(postgres, answers, [b"second"])
        await until_empty(postgres)
    await add_replies(postgres, answers, [b"third"])
    await until_empty(postgres)
    second.stop()
    await task

    sent = [record.value for record in await published(settings, answers)]
    assert sorted(sent) == [b"first", b"second", b"third"]
