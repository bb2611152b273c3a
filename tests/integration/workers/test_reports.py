"""What a worker reports, while the topics that it reports to disappear or shrink."""

import asyncio
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from niyama import kafka
from schemas import EventType, TokenChunk
from tests.support.workers import PATIENCE_S, Harness


async def test_without_tokens_and_dead_letter_topics_jobs_are_served_as_ever(
    harness: Harness,
) -> None:
    await harness.worker()
    topics = harness.settings.topics
    async with kafka.admin(harness.settings) as admin:
        await admin.delete_topics([topics.tokens.name, topics.dead_letters.name])
    await harness.send(b"nonsense")
    jobs = [await harness.publish(max_tokens=20, stream=n % 2 == 0) for n in range(40)]
    ended = await harness.until_ended(*jobs)
    assert {event.type for event in ended} == {EventType.COMPLETED}

    await kafka.ensure_topics(harness.settings, topics.all)
    reader = kafka.consumer(harness.settings, topics.tokens.name)
    harness.stack.push_async_callback(reader.stop)
    await reader.start()
    records = {}
    while not records:  # until the worker knows the new topic's leaders
        await harness.until_ended(await harness.publish(max_tokens=20, stream=True))
        records = await reader.getmany(timeout_ms=100)
    (first, *_), *_ = records.values()
    assert TokenChunk.model_validate_json(first.value).token_ids


@pytest.mark.parametrize("ahead_s", [-7200, 7200])
async def test_reports_by_a_clock_that_is_wrong_are_taken(harness: Harness, ahead_s: int) -> None:
    topics, timestamp_ms = harness.settings.topics, int((time.time() + ahead_s) * 1000)
    sender = harness.producer._kafka
    for spec in (topics.events, topics.tokens, topics.dead_letters):
        await sender.send(spec.name, b"{}", timestamp_ms=timestamp_ms)


async def _until_configured(
    admin: AIOKafkaAdminClient, topic: str, configs: dict[str, str]
) -> None:
    """Return once the broker goes by these settings of `topic`."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            [answer] = await admin.describe_configs([resource])
            [(*_, entries)] = answer.resources
            if configs == {name: value for name, value, *_ in entries}:
                return
            await asyncio.sleep(0.02)


async def test_a_result_that_the_events_topic_rejects_fails_its_own_job_only(
    harness: Harness,
) -> None:
    await harness.worker()
    events = harness.settings.topics.events.name
    async with kafka.admin(harness.settings) as admin:
        limit = {"max.message.bytes": "5000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, events, limit)])
        await _until_configured(admin, events, limit)
    large = await harness.publish(max_tokens=2_000)
    small = [await harness.publish(max_tokens=2) for _ in range(20)]
    failed, *completed = await harness.until_ended(large, *small)
    assert failed.error is not None
    assert (failed.type, failed.error.code) == (EventType.FAILED, "too_large")
    assert {event.type for event in completed} == {EventType.COMPLETED}
