"""Looks into the ledger, past the API."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from uuid import UUID

import asyncpg

from gateway.postgres.connection import DRIVER_ERRORS
from schemas.event import Source
from tests.chaos.evidence import LedgerRow
from tests.chaos.journal import Output, digest

WATCH_INTERVAL_S = 1.0
AWAY = DRIVER_ERRORS
"""What a Postgres raises that comes and goes."""

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


class OutcomeWatcher:
    """Looks at the ledger while it changes: an outcome, once shown, must stay."""

    def __init__(self, database_url: str) -> None:
        self.seen: dict[UUID, set[tuple[str, UUID]]] = defaultdict(set)
        self.looks = 0
        """How often it could look."""
        self._url = database_url

    async def run(self) -> None:
        """Look every second or so, until cancelled. Postgres may come and go."""
        while True:
            with contextlib.suppress(*AWAY):
                await self.look()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def look(self) -> None:
        async with asyncio.timeout(60), _connected(self._url) as connection:
            for job_id, status, event_id in await connection.fetch(ENDED_LATELY):
                self.seen[job_id].add((status, event_id))
        self.looks += 1


@contextlib.asynccontextmanager
async def _connected(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(url, timeout=5)
    try:
        yield connection
    finally:
        connection.terminate()


async def unfinished(
    database_url: str, job_ids: Collection[UUID], reply_topics: Collection[str]
) -> int:
    """How many of `job_ids` have not ended in the ledger, and replies to `reply_topics` that are
    still due."""
    async with _connected(database_url) as connection:
        ended: int = await connection.fetchval(
            "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND job_id = ANY($1)",
            list(job_ids),
        )
        due: int = await connection.fetchval(
            "SELECT count(*) FROM reply_outbox WHERE reply_topic = ANY($1) AND job_id = ANY($2)",
            list(reply_topics),
            list(job_ids),
        )
    return len(job_ids) - ended + due


async def read_ledger(database_url: str) -> dict[UUID, LedgerRow]:
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
