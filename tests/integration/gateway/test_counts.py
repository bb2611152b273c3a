"""What is open in the ledger, counted by the pool of the jobs and not of the gateway."""

import asyncio
from uuid import uuid4

import asyncpg

from gateway.database import engine
from gateway.ledger.counts import UNKNOWN_POOL, LedgerCounts, PoolCounts
from gateway.settings import GatewaySettings

_JOB = """
    INSERT INTO jobs (job_id, status, pool, kind, deadline_at, first_token_at,
                      attempt, relegations, parks, terminal_events)
    VALUES ($1, 'queued', $2, $3, now() + $4 * interval '1 second',
            CASE WHEN $5 THEN now() END, 0, 0, 0, 0)
"""
_REPLY = "INSERT INTO reply_outbox (job_id, reply_topic, value, headers) VALUES ($1, 't', '', '[]')"


async def test_open_jobs_and_replies_are_of_the_pools_of_their_jobs(
    settings: GatewaySettings, postgres: asyncpg.Connection
) -> None:
    late_chat = uuid4()
    for job_id, pool, kind, due_in_s, has_token in (
        (late_chat, "eu", "interactive", -5.0, False),
        (uuid4(), "eu", "interactive", -5.0, True),  # its first token came; it goes on
        (uuid4(), "eu", "batch", -5.0, True),
        (uuid4(), "us", "batch", 500.0, False),
        (uuid4(), None, None, None, False),
    ):
        await postgres.execute(_JOB, job_id, pool, kind, due_in_s, has_token)
    await postgres.execute(_REPLY, late_chat)
    database = engine(settings, 1)
    counts = LedgerCounts(database, "idle")
    counting = asyncio.create_task(counts.run())
    async with asyncio.timeout(60):
        while not counts.by_pool:
            await asyncio.sleep(0.01)
    counts.stop()
    await counting
    await database.dispose()
    assert counts.by_pool == {
        "idle": PoolCounts(),
        "eu": PoolCounts(open_jobs=3, overdue_jobs=2, pending_replies=1),
        "us": PoolCounts(open_jobs=1),
        UNKNOWN_POOL: PoolCounts(open_jobs=1),
    }
