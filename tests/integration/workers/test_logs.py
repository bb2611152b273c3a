"""Job topics whose records disappear, and topics that are recreated under the same name."""

import asyncio
import json
import logging
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from niyama import kafka
from schemas import EventType
from tests.support.workers import PATIENCE_S, Harness
from workers.offsets import log_watch
from workers.offsets.log_watch import LogWatch


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that a worker has looked at its topics, which it does often."""
    check, looks = LogWatch.check, []

    async def counted(self: LogWatch) -> None:
        await check(self)
        looks.append(None)

    monkeypatch.setattr(LogWatch, "check", counted)
    monkeypatch.setattr(log_watch, "CHECK_INTERVAL_S", 0.1)
    monkeypatch.setattr(log_watch, "LOOK_LIMIT_S", 60.0)
    monkeypatch.setattr(kafka, "METADATA_MAX_AGE_MS", 200)
    return looks


async def _create_again(harness: Harness) -> None:
    topic = harness.settings.topics.interactive
    async with kafka.admin(harness.settings) as admin:
        await admin.delete_topics([topic.name])
        async with asyncio.timeout(PATIENCE_S):
            while topic.name in await admin.list_topics():
                await asyncio.sleep(0.02)
    await kafka.ensure_topics(harness.settings, [topic])


async def _send_job(harness: Harness) -> UUID:
    """To partition 0."""
    job_id = uuid4()
    job = {"job_id": str(job_id), "model": "null", "qos": "chat", "prompt": "p", "max_tokens": 2}
    await harness.send(json.dumps(job).encode())
    return job_id


async def test_a_topic_that_is_created_again_under_a_worker_is_read_from_its_beginning(
    harness: Harness, looks: list[None]
) -> None:
    worker = await harness.worker()
    running = await harness.publish("gate")
    await harness.until_type(running, EventType.FIRST_TOKEN)
    before = [await _send_job(harness) for _ in range(5)]
    await harness.until_ended(*before)
    enough = len(looks) + 2  # one may have begun before
    await harness.until(lambda: len(looks) >= enough, "a look at the topic")
    await _create_again(harness)
    after = [await _send_job(harness) for _ in range(9)]
    ended = await harness.until_ended(*after)
    assert {event.type for event in ended} == {EventType.COMPLETED}
    worker.engine.gates["gate"].set()
    (completed,) = await harness.until_ended(running)  # though its record is gone
    assert (completed.type, completed.attempt) == (EventType.COMPLETED, 1)
    await worker.drain()


async def test_a_topic_that_is_created_again_between_two_runs_is_read_from_its_beginning(
    harness: Harness,
) -> None:
    worker = await harness.worker()
    await harness.until_ended(*[await _send_job(harness) for _ in range(5)])
    await worker.drain()
    await _create_again(harness)
    after = [await _send_job(harness) for _ in range(2)]
    await harness.worker()
    ended = await harness.until_ended(*after)
    assert {event.type for event in ended} == {EventType.COMPLETED}


async def test_records_that_are_deleted_before_they_ran_are_named_in_a_warning(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await harness.worker()
    await harness.until_ended(*[await _send_job(harness) for _ in range(3)])
    await worker.drain()
    jobs = [await _send_job(harness) for _ in range(5)]
    partition = TopicPartition(harness.settings.topics.interactive.name, 0)
    async with kafka.admin(harness.settings) as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=6)})
    with caplog.at_level(logging.WARNING, "workers"):
        await harness.worker()
        await harness.until_ended(*jobs[3:])
        await harness.until(lambda: "were deleted" in caplog.text, "the warning")
    assert f"{partition.topic}/0: offsets 3 to 5 were deleted" in caplog.text
    assert not any(map(harness.ended, jobs[:3]))
