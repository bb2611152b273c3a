"""Replies reach their topics exactly once, for read-committed consumers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka.admin import NewTopic

from gateway.replies import lane, waiting
from gateway.replies.relay import ReplyRelay
from gateway.replies.waiting import Reply
from gateway.settings import GatewaySettings
from niyama import kafka
from schemas.reply import ReplySent
from tests.support.records import TRACEPARENT
from tests.support.wire import PATIENCE_S, Wire, published

pytestmark = pytest.mark.usefixtures("wire")  # the topics exist


class DiedError(BaseException):
    """Stands for a crash: nothing handles it."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does nothing for some seconds is no fault of a topic."""
    monkeypatch.setattr(lane, "OPEN_TIMEOUT_S", 2 * PATIENCE_S)
    monkeypatch.setattr(lane, "SEND_TIMEOUT_S", 2 * PATIENCE_S)
    monkeypatch.setattr(kafka, "NODE_TIMEOUT_MS", 60_000)


@pytest.fixture
def _often_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay reads what was sent every second."""
    monkeypatch.setattr("gateway.replies.term.NOTE_INTERVAL_S", 0.0)


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
        await asyncio.wait_for(task, 60)


async def add_replies(
    postgres: asyncpg.Connection,
    topic: str | None,
    values: Sequence[bytes],
    job_ids: Sequence[UUID] = (),
) -> list[UUID]:
    jobs = job_ids or [uuid4() for _ in values]
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
    return list(jobs)


async def until_empty(postgres: asyncpg.Connection) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await postgres.fetchval("SELECT count(*) FROM reply_outbox"):
            await asyncio.sleep(0.05)


async def test_a_reply_is_the_event_with_its_trace_in_a_topic_that_is_made_for_it(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    (job_id,) = await add_replies(postgres, answers, [b'{"the": "event"}'])
    await add_replies(postgres, None, [b"held"])

    async with relaying(settings):
        async with asyncio.timeout(PATIENCE_S):
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


@pytest.mark.parametrize("point", ["_publish_all", "_note_all", "commit", "after the commit"])
async def test_a_crash_of_the_relay_neither_loses_nor_repeats_a_reply(
    settings: GatewaySettings,
    postgres: asyncpg.Connection,
    answers: str,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    await add_replies(postgres, answers, [b"first", b"second"])

    with monkeypatch.context() as patch:
        _die_at(point, patch)
        with pytest.raises(DiedError):
            await asyncio.wait_for(ReplyRelay(settings).run(), 60)
    left = await postgres.fetchval("SELECT count(*) FROM reply_outbox")
    await postgres.execute("DELETE FROM leases")  # its time is over
    await add_replies(postgres, answers, [b"third"])
    async with relaying(settings):
        await until_empty(postgres)

    assert left == 2  # it died before it deleted them
    sent = sorted(record.value for record in await published(settings, answers))
    assert sent == [b"first", b"second", b"third"]


def _die_at(point: str, patch: pytest.MonkeyPatch) -> None:
    """Let the first relay that comes to `point` of a transaction die there."""
    name = point if hasattr(lane.Lane, point) else "send"
    original = getattr(lane.Lane, name)

    async def dying(self: lane.Lane, replies: Sequence[Reply]) -> None:
        if point == "commit":

            async def die() -> None:
                raise DiedError

            patch.setattr(self._producer, "commit_transaction", die)
        await original(self, replies)
        raise DiedError

    patch.setattr(lane.Lane, name, dying)


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


async def test_two_relays_that_both_believe_in_their_lease_send_nothing_twice(
    settings: GatewaySettings,
    postgres: asyncpg.Connection,
    answers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hold(_: object) -> bool:
        return True

    monkeypatch.setattr("gateway.replies.lease.Lease.hold", hold)
    values = [f"reply {number}".encode() for number in range(300)]

    async with relaying(settings), relaying(settings):
        for start in range(0, len(values), 50):
            await add_replies(postgres, answers, values[start : start + 50])
            await until_empty(postgres)

    sent = [record.value for record in await published(settings, answers)]
    assert sorted(sent) == sorted(values)


# ---- topics that take no replies


async def create_topic(settings: GatewaySettings, name: str, **configs: str) -> None:
    topic = NewTopic(
        name, 1, 1, topic_configs={key.replace("_", "."): configs[key] for key in configs}
    )
    assert await kafka.create_missing(settings, [topic]) == {}


async def test_a_reply_that_is_too_large_waits_alone(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    await create_topic(settings, answers, max_message_bytes="2000")
    await add_replies(postgres, answers, [b"fine"] * 20)
    (too_large,) = await add_replies(postgres, answers, [b"x" * 5000])
    await add_replies(postgres, answers, [b"fine"] * 20)

    async with relaying(settings), asyncio.timeout(PATIENCE_S):
        while await postgres.fetchval("SELECT count(*) FROM reply_outbox WHERE error IS NULL"):
            await asyncio.sleep(0.05)

    assert [record.value for record in await published(settings, answers)] == [b"fine"] * 40
    (kept,) = await postgres.fetch("SELECT * FROM reply_outbox")
    assert kept["job_id"] == too_large
    assert "MessageSizeTooLarge" in kept["error"]
    assert kept["next_try_at"] > kept["failing_since"] >= kept["written_at"]
    assert not await postgres.fetchval("SELECT count(*) FROM failing_reply_topics")


async def test_a_topic_that_takes_no_replies_waits_alone(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    await create_topic(settings, answers)
    missing = f"{answers}-missing"
    await add_replies(postgres, missing, [b"x"] * 1000)  # first, and more than a batch
    await add_replies(postgres, answers, [b"fine"])
    waiting = "SELECT count(*) FROM reply_outbox WHERE reply_topic = $1"

    async with relaying(settings.model_copy(update={"create_reply_topics": False})):
        async with asyncio.timeout(PATIENCE_S):
            while await postgres.fetchval(waiting, answers):
                await asyncio.sleep(0.05)
            while not (failing := await postgres.fetch("SELECT * FROM failing_reply_topics")):
                await asyncio.sleep(0.05)
        assert await postgres.fetchval(waiting, missing) == 1000
        assert [(row["topic"], row["error"]) for row in failing] == [
            (missing, "the topic does not exist")
        ]
        await create_topic(settings, missing)
        await postgres.execute("UPDATE failing_reply_topics SET next_try_at = now()")
        await until_empty(postgres)

    assert len(await published(settings, missing)) == 1000
    assert not await postgres.fetchval("SELECT count(*) FROM failing_reply_topics")


async def test_a_topic_that_hangs_holds_up_no_other(
    settings: GatewaySettings,
    postgres: asyncpg.Connection,
    answers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = f"{answers}-hanging"
    publish_all = lane.Lane._publish_all

    async def publish_or_hang(self: lane.Lane, replies: Sequence[Reply]) -> None:
        if replies[0].topic == hanging:
            await asyncio.Event().wait()
        await publish_all(self, replies)

    monkeypatch.setattr(lane.Lane, "_publish_all", publish_or_hang)
    await add_replies(postgres, hanging, [b"x"] * 10)
    waiting = "SELECT count(*) FROM reply_outbox WHERE reply_topic = $1"

    async with relaying(settings):
        async with asyncio.timeout(PATIENCE_S):  # while the other one hangs
            await add_replies(postgres, answers, [b"first"])
            while await postgres.fetchval(waiting, answers):
                await asyncio.sleep(0.05)
            await add_replies(postgres, answers, [b"second"])
            while await postgres.fetchval(waiting, answers):
                await asyncio.sleep(0.05)

    assert await postgres.fetchval(waiting, hanging) == 10


async def test_a_reply_to_a_topic_that_is_not_allowed_ends_as_undeliverable(
    settings: GatewaySettings, postgres: asyncpg.Connection
) -> None:
    await add_replies(postgres, settings.topics.control.name, [b"{}"])

    async with relaying(settings), asyncio.timeout(PATIENCE_S):
        while not await postgres.fetchval("SELECT count(undeliverable_at) FROM reply_outbox"):
            await asyncio.sleep(0.05)

    assert "a topic of Niyama's own" in await postgres.fetchval("SELECT error FROM reply_outbox")
    assert await published(settings, settings.topics.control.name) == []


async def test_what_a_topic_does_not_take_for_a_day_is_given_up(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    (old,) = await add_replies(postgres, answers, [b"old"])
    await postgres.execute(
        "UPDATE reply_outbox SET written_at = now() - interval '25 hours', "
        "next_try_at = now() - interval '25 hours'"
    )
    await postgres.execute(
        "INSERT INTO failing_reply_topics "
        "VALUES ($1, now() - interval '25 hours', 300, now(), 'the topic does not exist')",
        answers,
    )
    (new,) = await add_replies(postgres, answers, [b"new"])

    async with relaying(settings.model_copy(update={"create_reply_topics": False})):
        async with asyncio.timeout(PATIENCE_S):
            while not await postgres.fetchval("SELECT count(undeliverable_at) FROM reply_outbox"):
                await asyncio.sleep(0.05)

    rows = await postgres.fetch("SELECT job_id, undeliverable_at, error FROM reply_outbox")
    assert {row["job_id"]: row["error"] for row in rows} == {
        old: "the topic does not exist",
        new: None,
    }


async def test_a_clock_of_postgres_that_was_set_back_delays_no_reply(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    await create_topic(settings, answers)
    await add_replies(postgres, answers, [b"tomorrow's"])
    await postgres.execute("UPDATE reply_outbox SET next_try_at = now() + interval '1 day'")
    await postgres.execute(
        "INSERT INTO failing_reply_topics VALUES ($1, now(), 1, now() + interval '1 day', 'x')",
        answers,
    )
    async with relaying(settings):
        await until_empty(postgres)
    await sent_once(settings, answers, [b"tomorrow's"])


# ---- databases and logs that are not each other's


async def sent_once(settings: GatewaySettings, answers: str, values: list[bytes]) -> None:
    assert sorted(record.value for record in await published(settings, answers)) == sorted(values)


@pytest.mark.usefixtures("_often_noted")
@pytest.mark.parametrize("position", [None, 1])
@pytest.mark.parametrize("when", ["before the relay starts", "after it"])
async def test_a_database_that_was_restored_or_emptied_repeats_no_reply(
    settings: GatewaySettings,
    postgres: asyncpg.Connection,
    answers: str,
    position: int | None,
    when: str,
) -> None:
    values = [b"first", b"second", b"third"]
    async with relaying(settings):
        jobs = await add_replies(postgres, answers, values[:1])
        await until_empty(postgres)
        jobs += await add_replies(postgres, answers, values[1:])
        await until_empty(postgres)

    # The ledger reads the same ends again, sooner or later than the relay reads what was sent.
    await postgres.execute("TRUNCATE reply_outbox, ledger_offsets, replies_sent")
    if position is not None:
        await postgres.execute(
            "INSERT INTO ledger_offsets VALUES ($1, 0, $2)",
            *(settings.topics.replies_sent.name, position),
        )
        jobs, values_again = jobs[1:], values[1:]
    else:
        values_again = values
    if when == "before the relay starts":
        await add_replies(postgres, answers, values_again, jobs)
    async with relaying(settings):
        if when == "after it":
            async with asyncio.timeout(PATIENCE_S):
                while not await postgres.fetchval("SELECT count(*) FROM replies_sent"):
                    await asyncio.sleep(0.05)
            await add_replies(postgres, answers, values_again, jobs)
        await add_replies(postgres, answers, [b"new"])
        await until_empty(postgres)

    await sent_once(settings, answers, [*values, b"new"])


async def test_a_database_that_is_restored_under_a_running_relay_repeats_no_reply(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    jobs = await add_replies(postgres, answers, [b"first", b"second"])
    async with relaying(settings):
        await until_empty(postgres)
        async with postgres.transaction():
            await postgres.execute("TRUNCATE reply_outbox, ledger_offsets, replies_sent")
            await add_replies(postgres, answers, [b"first", b"second"], jobs)
        await add_replies(postgres, answers, [b"new"])
        await until_empty(postgres)

    await sent_once(settings, answers, [b"first", b"second", b"new"])


async def test_a_look_at_what_is_due_does_not_walk_over_all_that_was_sent(
    postgres: asyncpg.Connection, answers: str
) -> None:
    sent = await add_replies(postgres, answers, [b"sent"] * 2_000)
    await postgres.executemany(
        "INSERT INTO replies_sent (job_id) VALUES ($1)", [(x,) for x in sent]
    )
    await postgres.execute("ANALYZE reply_outbox, replies_sent")

    [[plan]] = await postgres.fetch(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {waiting._DUE}", answers, "replies-sent", 0, 10
    )

    assert all(rows <= 10 for rows in walked(json.loads(plan)[0]["Plan"])), plan


def walked(node: dict[str, Any]) -> Iterator[float]:
    """The rows of `reply_outbox` that each part of a plan looked at."""
    if node.get("Relation Name") == "reply_outbox":
        yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    for part in node.get("Plans", ()):
        yield from walked(part)


async def test_many_replies_that_were_sent_are_dropped_before_one_that_was_not(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    sent = await add_replies(postgres, answers, [b"sent"] * 1_100)
    await postgres.executemany(
        "INSERT INTO replies_sent (job_id) VALUES ($1)", [(x,) for x in sent]
    )
    await add_replies(postgres, answers, [b"new"])
    async with relaying(settings):
        await until_empty(postgres)

    await sent_once(settings, answers, [b"new"])


async def test_an_empty_log_stops_no_reply(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    topic = settings.topics.replies_sent.name
    await postgres.execute("INSERT INTO ledger_offsets VALUES ($1, 0, 1000000)", topic)
    await add_replies(postgres, answers, [b"new"])

    async with relaying(settings):
        await until_empty(postgres)

    await sent_once(settings, answers, [b"new"])


async def test_a_log_that_is_older_than_the_database_is_read_again(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str, wire: Wire
) -> None:
    known, topic = uuid4(), settings.topics.replies_sent.name
    note = ReplySent(job_id=known, reply_topic=answers, sent_at=datetime.now(UTC))
    for key, value in [(b"no id", b"{}"), (None, b"\xff"), (str(known).encode(), note.to_bytes())]:
        await wire.kafka.send_and_wait(topic, value, key=key)
    await postgres.execute("INSERT INTO ledger_offsets VALUES ($1, 0, 1000000)", topic)
    await add_replies(postgres, answers, [b"known"], [known])
    await add_replies(postgres, answers, [b"new"])

    async with relaying(settings):
        await until_empty(postgres)

    await sent_once(settings, answers, [b"new"])


@pytest.mark.usefixtures("_often_noted")
async def test_the_end_of_a_job_that_is_known_here_is_not_remembered(
    settings: GatewaySettings, postgres: asyncpg.Connection, answers: str
) -> None:
    jobs = await add_replies(postgres, answers, [b"first", b"second"])
    await postgres.executemany(
        "INSERT INTO jobs (job_id, status, attempt, relegations, parks, terminal_events, "
        "finished_at) VALUES ($1, 'completed', 1, 0, 0, 1, now())",
        [(job_id,) for job_id in jobs],
    )
    async with relaying(settings):
        await until_empty(postgres)
    async with relaying(settings), asyncio.timeout(PATIENCE_S):  # reads the notes of the first
        while not await postgres.fetchval(
            "SELECT count(*) FROM ledger_offsets WHERE topic = $1",
            settings.topics.replies_sent.name,
        ):
            await asyncio.sleep(0.05)

    assert not await postgres.fetchval("SELECT count(*) FROM replies_sent")
