"""Two gateways take one job at the same moment: two records, and one job all the same."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import database
from gateway.api.submissions import Submissions
from gateway.ledger.job import Job
from gateway.ledger.queries import Ledger
from gateway.settings import GatewaySettings
from schemas import EventType, headers
from tests.support.workers import PATIENCE_S, Harness

REPLIES = "niyama-replies.answers"
CHAT = {"model": "null", "qos": "chat", "prompt": "hi", "max_tokens": 3, "reply_topic": REPLIES}


class LooksTogether(Ledger):
    """Has looked for a job only when the other gateway has, too."""

    def __init__(self, engine: AsyncEngine, together: asyncio.Barrier) -> None:
        super().__init__(engine)
        self._together = together

    async def job(self, job_id: UUID) -> Job | None:
        found = await super().job(job_id)
        await self._together.wait()
        return found


@pytest.fixture
async def gateways(
    harness: Harness, gateway_settings: GatewaySettings
) -> AsyncIterator[list[Submissions]]:
    together = asyncio.Barrier(2)
    engines = [database.engine(gateway_settings, connections=1) for _ in range(2)]
    yield [
        Submissions(gateway_settings, harness.producer, LooksTogether(engine, together))
        for engine in engines
    ]
    for engine in engines:
        await engine.dispose()


async def submitted(
    gateways: list[Submissions], documents: list[dict[str, object]], key: str | None = None
) -> UUID:
    """Each document goes to one gateway, and each gateway takes it. The one id of both."""
    async with asyncio.timeout(PATIENCE_S):
        accepted = await asyncio.gather(
            *(
                gateway.submit(json.dumps(document).encode(), key, {})
                for gateway, document in zip(gateways, documents, strict=True)
            )
        )
    assert [each.existed for each in accepted] == [False, False]
    (job_id,) = {each.job.job_id for each in accepted}
    return job_id


async def row_of_the_end(ledger: asyncpg.Connection, job_id: UUID) -> asyncpg.Record:
    async with asyncio.timeout(PATIENCE_S):
        query = "SELECT * FROM jobs WHERE job_id = $1 AND finished_at IS NOT NULL"
        while (row := await ledger.fetchrow(query, job_id)) is None:
            await asyncio.sleep(0.05)
    return row


def ends(harness: Harness, job_id: UUID) -> dict[tuple[str, int, int], EventType]:
    """How each record with this id ended."""
    return {
        (event.source.topic, event.source.partition, event.source.offset): event.type
        for event in harness.events_of(job_id)
        if event.source and event.type.is_terminal
    }


async def test_one_key_at_two_gateways_is_one_job(
    harness: Harness, ledger: asyncpg.Connection, gateways: list[Submissions]
) -> None:
    job_id = await submitted(gateways, [CHAT, CHAT], key="order 17")
    await harness.worker()
    await harness.until(lambda: len(ends(harness, job_id)) == 2, "an end of each record")
    row = await row_of_the_end(ledger, job_id)

    first = (row["source_topic"], row["source_partition"], row["source_offset"])
    found = ends(harness, job_id)
    assert found.pop(first) == row["status"] == EventType.COMPLETED
    assert list(found.values()) == [EventType.FAILED]
    await harness.until(lambda: bool(harness.dead_letters), "the dead letter")
    (letter,) = harness.dead_letters
    assert dict(letter.headers)[headers.REASON_CODE] == b"duplicate_job_id"
    assert row["terminal_events"] == 1
    assert await ledger.fetchval("SELECT count(*) FROM jobs") == 1
    assert await ledger.fetchval("SELECT count(*) FROM job_results") == 1
    assert await ledger.fetchval("SELECT count(*) FROM reply_outbox") == 1


async def test_one_id_for_two_different_jobs_is_the_first_of_them(
    harness: Harness, ledger: asyncpg.Connection, gateways: list[Submissions]
) -> None:
    job_id = str(uuid4())
    chat = CHAT | {"job_id": job_id, "tenant": "a"}
    batch = CHAT | {"job_id": job_id, "tenant": "b", "qos": "batch-1h", "max_tokens": 5}
    await submitted(gateways, [chat, batch])
    await harness.worker()
    await harness.until(lambda: len(ends(harness, UUID(job_id))) == 2, "an end of each record")
    row = await row_of_the_end(ledger, UUID(job_id))

    first = (row["source_topic"], row["source_partition"], row["source_offset"])
    assert ends(harness, UUID(job_id))[first] == row["status"] == EventType.COMPLETED
    assert row["completion_tokens"] == row["max_tokens"] == {"a": 3, "b": 5}[row["tenant"]]
    assert row["terminal_events"] == 1
    assert await ledger.fetchval("SELECT count(*) FROM reply_outbox") == 1
