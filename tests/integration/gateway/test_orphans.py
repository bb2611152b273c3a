"""What waits for a job's record is deleted when that cannot come any more."""

from datetime import timedelta
from uuid import uuid4

import asyncpg

from gateway.ledger.orphans import delete_orphans
from gateway.ledger.records import Cancellation
from gateway.settings import GatewaySettings
from tests.support.ledger import START, report, submission
from tests.support.polls import Log, replies


async def age(postgres: asyncpg.Connection, by: timedelta) -> None:
    await postgres.execute("UPDATE reply_outbox SET written_at = now() - $1::interval", by)
    await postgres.execute(
        "UPDATE jobs SET cancel_requested_at = now() - $1::interval "
        "WHERE cancel_requested_at IS NOT NULL",
        by,
    )


async def test_what_waits_for_a_record_is_deleted_when_kafka_cannot_have_it(
    settings: GatewaySettings, postgres: asyncpg.Connection, log: Log
) -> None:
    held, addressed, unknown, reported, queued = (uuid4() for _ in range(5))
    await log.write(
        report(held, "completed"),
        *(submission(addressed, reply_topic="answers"), report(addressed, "completed")),
        *(Cancellation(unknown, START), Cancellation(reported, START)),
        *(report(reported, "admitted"), submission(queued), Cancellation(queued, START)),
    )

    await age(postgres, timedelta(days=7))
    await delete_orphans(settings)
    early = (len(await replies(postgres)), await postgres.fetchval("SELECT count(*) FROM jobs"))
    await age(postgres, timedelta(days=15))
    await delete_orphans(settings)

    assert early == (2, 5)
    assert await replies(postgres) == [(addressed, "answers")]
    left = await postgres.fetch("SELECT job_id FROM jobs")
    assert {row["job_id"] for row in left} == {held, addressed, reported, queued}
