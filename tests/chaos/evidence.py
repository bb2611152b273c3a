"""What the system shows from outside: the ledger, the API, and what stands in the topics."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import httpx
from aiokafka import TopicPartition
from pydantic import ValidationError

from niyama import KafkaSettings, kafka
from niyama.kafka import ConsumedRecord
from schemas import JobEvent, TokenChunk
from schemas.event import Source
from tests.chaos.journal import Output, digest

READ_TIMEOUT_S = 120.0
WATCH_INTERVAL_S = 1.0
API_AT_ONCE = 16

M = TypeVar("M", JobEvent, TokenChunk)

LEDGER = """
SELECT job_id, status::text, terminal_event_id, attempt, prompt_tokens, completion_tokens,
       error_code, error_message, arrived_at, finished_at, metadata->>'chaos' AS tag, text,
       source_topic, source_partition, source_offset
FROM jobs LEFT JOIN job_results USING (job_id)
"""
ENDED_LATELY = """
SELECT job_id, status::text, terminal_event_id FROM jobs
WHERE finished_at > now() - interval '60 seconds'
"""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A job in the ledger."""

    status: str
    terminal_event_id: UUID | None
    output: Output
    error: str
    attempt: int
    arrived_at_s: float | None
    finished_at_s: float | None
    tag: str | None
    source: Source | None = None
    """The record that is the job."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A terminal event: in the events topic, or as a reply."""

    event_id: UUID
    status: str
    attempt: int
    worker_id: str
    output: Output
    at_s: float
    source: Source | None = None
    """The record that it is about."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What `GET /v1/jobs/{id}` says at the end.

    The status is "unknown" after a 404, and "unavailable" when there is no answer.
    """

    status: str
    output: Output


@dataclass(slots=True)
class Evidence:
    """Everything that was seen, by job."""

    ledger: dict[UUID, LedgerRow] = field(default_factory=dict)
    api: dict[UUID, ApiAnswer] = field(default_factory=dict)
    endings: dict[UUID, list[Ending]] = field(default_factory=dict)
    """Of the events topic, each event once."""
    touched: set[UUID] = field(default_factory=set)
    """Jobs with any event: a worker had them."""
    replies: dict[UUID, list[tuple[str, Ending]]] = field(default_factory=dict)
    """Topic and event, as a read-committed consumer sees them."""
    streamed: dict[UUID, dict[int, int]] = field(default_factory=dict)
    """Tokens that were streamed at least, by attempt, of the record that is the job."""
    outcomes_seen: dict[UUID, set[tuple[str, UUID]]] = field(default_factory=dict)
    """Status and terminal event of ended jobs, each time that somebody looked."""


def ending_of(event: JobEvent) -> Ending:
    """The parts of a terminal event that are compared."""
    result, usage = event.result, event.usage
    output = Output(
        completion_tokens=usage.completion_tokens if usage else None,
        prompt_tokens=usage.prompt_tokens if usage else None,
        text_digest=digest(result.text) if result else None,
    )
    status, at_s = event.type.value, event.at.timestamp()
    return Ending(
        event.event_id, status, event.attempt, event.worker_id, output, at_s, event.source
    )


class OutcomeWatcher:
    """Looks at the ledger while it changes: an outcome, once shown, must stay."""

    def __init__(self, database_url: str) -> None:
        self.seen: dict[UUID, set[tuple[str, UUID]]] = defaultdict(set)
        self._url = database_url

    async def run(self) -> None:
        """Look every second or so, until cancelled. Postgres may come and go."""
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
                await self.look()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def look(self) -> None:
        async with asyncio.timeout(10), _connected(self._url) as connection:
            for job_id, status, event_id in await connection.fetch(ENDED_LATELY):
                self.seen[job_id].add((status, event_id))


@contextlib.asynccontextmanager
async def _connected(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(url, timeout=5)
    try:
        yield connection
    finally:
        connection.terminate()


async def unfinished(database_url: str, job_ids: Collection[UUID]) -> int:
    """How many of `job_ids` have not ended in the ledger, and replies that are still due."""
    async with _connected(database_url) as connection:
        ended: int = await connection.fetchval(
            "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND job_id = ANY($1)",
            list(job_ids),
        )
        due: int = await connection.fetchval(
            "SELECT count(*) FROM reply_outbox WHERE undeliverable_at IS NULL "
            "AND reply_topic NOT IN (SELECT topic FROM failing_reply_topics) "
            "AND job_id = ANY($1)",
            list(job_ids),
        )
    return len(job_ids) - ended + due


async def gather_evidence(
    settings: KafkaSettings,
    database_url: str,
    gateway_urls: Sequence[str],
    job_ids: Collection[UUID],
    reply_topics: Iterable[str],
) -> Evidence:
    """Look everywhere. The system must be at rest."""
    evidence = Evidence()
    evidence.ledger = await _read_ledger(database_url)
    await asyncio.gather(
        _read_events(settings, evidence),
        _read_tokens(settings, evidence),
        _read_replies(settings, reply_topics, evidence),
        _ask_api(gateway_urls, job_ids, evidence),
    )
    return evidence


async def _read_ledger(database_url: str) -> dict[UUID, LedgerRow]:
    async with _connected(database_url) as connection:
        return {row["job_id"]: _ledger_row(row) for row in await connection.fetch(LEDGER)}


def _ledger_row(row: asyncpg.Record) -> LedgerRow:
    arrived_at, finished_at, text = row["arrived_at"], row["finished_at"], row["text"]
    return LedgerRow(
        status=row["status"],
        terminal_event_id=row["terminal_event_id"],
        output=Output(
            row["completion_tokens"],
            row["prompt_tokens"],
            digest(text) if text is not None else None,
        ),
        error=": ".join(filter(None, (row["error_code"], row["error_message"]))),
        attempt=row["attempt"],
        arrived_at_s=arrived_at and arrived_at.timestamp(),
        finished_at_s=finished_at and finished_at.timestamp(),
        tag=row["tag"],
        source=_source(row["source_topic"], row["source_partition"], row["source_offset"]),
    )


def _source(topic: str | None, partition: int | None, offset: int | None) -> Source | None:
    if topic is None or partition is None or offset is None:
        return None
    return Source(topic=topic, partition=partition, offset=offset)


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
                httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)
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
    )
