"""What polls leave in the ledger."""

from uuid import UUID

import asyncpg

from gateway.ledger.records import Entry
from gateway.ledger.writer import OffsetStep, Written, write


class Log:
    """Writes entries as if they came from one partition, `topic` 0."""

    def __init__(self, postgres: asyncpg.Connection) -> None:
        self._postgres = postgres
        self._offset = 0

    async def write(self, *entries: Entry) -> Written:
        """One poll."""
        step = OffsetStep("topic", 0, self._offset, self._offset + 1)
        written = await write(self._postgres, entries, [step])
        self._offset += 1
        return written


async def row(postgres: asyncpg.Connection, job_id: UUID) -> asyncpg.Record:
    found = await postgres.fetchrow("SELECT * FROM jobs WHERE job_id = $1", job_id)
    assert found is not None
    return found


async def replies(postgres: asyncpg.Connection) -> list[tuple[UUID, str | None]]:
    rows = await postgres.fetch("SELECT job_id, reply_topic FROM reply_outbox ORDER BY job_id")
    return [(found["job_id"], found["reply_topic"]) for found in rows]
