"""Gathers evidence: from the ledger, the API, and what stands in the topics."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import httpx
from aiokafka import TopicPartition
from pydantic import ValidationError

from niyama import KafkaSettings, kafka
from niyama.kafka import ConsumedRecord
from schemas import JobEvent, TokenChunk, headers
from schemas.event import Source
from tests.chaos.evidence import ApiAnswer, Evidence, ending_of
from tests.chaos.journal import Output, digest
from tests.chaos.ledger import read_ledger

READ_TIMEOUT_S = 120.0
API_AT_ONCE = 16

M = TypeVar("M", JobEvent, TokenChunk)


async def gather_evidence(
    settings: KafkaSettings,
    database_url: str,
    gateway_urls: Sequence[str],
    job_ids: Collection[UUID],
    reply_topics: Iterable[str],
) -> Evidence:
    """Look everywhere. The system must be at rest."""
    evidence = Evidence()
    evidence.ledger = await read_ledger(database_url)
    await asyncio.gather(
        _read_events(settings, evidence),
        _read_tokens(settings, evidence),
        _read_replies(settings, reply_topics, evidence),
        _read_dead_letters(settings, evidence),
        _ask_api(gateway_urls, job_ids, evidence),
    )
    return evidence


async def _read_events(settings: KafkaSettings, evidence: Evidence) -> None:
    seen: set[UUID] = set()
    async for record in _records(settings, settings.topics.events.name):
        event = _parsed(JobEvent, record)
        if event is None or event.event_id in seen:
            continue
        seen.add(event.event_id)
        evidence.touched.add(event.job_id)
        if event.type.is_terminal:
            evidence.endings.setdefault(event.job_id, []).append(ending_of(event))


async def _read_tokens(settings: KafkaSettings, evidence: Evidence) -> None:
    async for record in _records(settings, settings.topics.tokens.name):
        chunk = _parsed(TokenChunk, record)
        row = chunk and evidence.ledger.get(chunk.job_id)
        if chunk and row and row.source == chunk.source:
            attempts = evidence.streamed.setdefault(chunk.job_id, {})
            # A chunk says where it begins, and not how many tokens it has.
            attempts[chunk.attempt] = max(attempts.get(chunk.attempt, 0), chunk.index + 1)


async def _read_replies(settings: KafkaSettings, topics: Iterable[str], evidence: Evidence) -> None:
    async for record in _records(settings, *topics):
        event = _parsed(JobEvent, record)
        if event is not None:
            reply = (record.topic, ending_of(event))
            evidence.replies.setdefault(event.job_id, []).append(reply)


async def _read_dead_letters(settings: KafkaSettings, evidence: Evidence) -> None:
    async for record in _records(settings, settings.topics.dead_letters.name):
        told = {name: (value or b"").decode() for name, value in record.headers}
        evidence.dead_letters.add(
            Source(
                topic=told[headers.SOURCE_TOPIC],
                partition=int(told[headers.SOURCE_PARTITION]),
                offset=int(told[headers.SOURCE_OFFSET]),
            )
        )


def _parsed(message: type[M], record: ConsumedRecord) -> M | None:
    try:
        return message.model_validate_json(record.value or b"")
    except ValidationError:
        return None  # a hostile one


async def _records(settings: KafkaSettings, *topics: str) -> AsyncIterator[ConsumedRecord]:
    """All that a read-committed consumer finds in `topics` by now."""
    consumer = kafka.consumer(settings, isolation_level="read_committed")
    await consumer.start()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            partitions = [
                TopicPartition(topic, number)
                for topic in topics
                for number in await _partitions(consumer, topic)
            ]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            while any([await consumer.position(each) < end for each, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        yield record
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[int]:
    await consumer._client.set_topics([topic])
    return sorted(consumer.partitions_for_topic(topic) or ())


async def _ask_api(urls: Sequence[str], job_ids: Collection[UUID], evidence: Evidence) -> None:
    """Every job, half of them at each gateway."""
    async with contextlib.AsyncExitStack() as stack:
        apis = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
            )
            for url in urls
        ]
        slots = asyncio.Semaphore(API_AT_ONCE)

        async def ask(number: int, job_id: UUID) -> None:
            async with slots:
                in_turn = [*apis[number % len(apis) :], *apis[: number % len(apis)]]
                evidence.api[job_id] = await _ask_until_answered(in_turn, job_id)

        await asyncio.gather(*(ask(number, job_id) for number, job_id in enumerate(job_ids)))


async def _ask_until_answered(apis: Sequence[httpx.AsyncClient], job_id: UUID) -> ApiAnswer:
    for api in apis:
        with contextlib.suppress(httpx.TransportError):
            return await _ask(api, job_id)
    return ApiAnswer("unavailable", Output())


async def _ask(api: httpx.AsyncClient, job_id: UUID) -> ApiAnswer:
    answer = await api.get(f"/v1/jobs/{job_id}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return ApiAnswer("unknown", Output())
    if not answer.is_success:
        return ApiAnswer(f"HTTP {answer.status_code}", Output())
    view = json.loads(answer.content)
    result = view.get("result")
    usage = view.get("usage") or {}
    return ApiAnswer(
        view["status"],
        Output(
            usage.get("completion_tokens"),
            usage.get("prompt_tokens"),
            digest(result["text"]) if result else None,
        ),
        reply=(view.get("reply") or {}).get("state"),
    )
