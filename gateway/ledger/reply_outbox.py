"""The outbox: terminal events in Postgres that wait for their reply topics.

The ledger's writer adds them, in the transaction that ends their jobs; the relay publishes them
(`gateway.replies`).
"""

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from gateway.ledger.records import Report
from gateway.ledger.rows import columns
from schemas.headers import Headers

_ADD = """
INSERT INTO reply_outbox (job_id, reply_topic, value, headers)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::jsonb[]) ON CONFLICT DO NOTHING
"""
_ADDRESS = """
UPDATE reply_outbox AS held SET reply_topic = job.reply_topic
FROM unnest($1::uuid[], $2::text[]) AS job (job_id, reply_topic)
WHERE held.job_id = job.job_id AND held.reply_topic IS NULL AND job.reply_topic IS NOT NULL
"""
_DROP_HELD = "DELETE FROM reply_outbox WHERE job_id = ANY($1) AND reply_topic IS NULL"


async def add(connection: asyncpg.Connection, endings: Sequence[tuple[Report, str | None]]) -> int:
    """Add terminal events with their reply topics. Returns how many can be sent now.

    One without a topic is held until `address_held`, because its job's record is not known yet.
    """
    if not endings:
        return 0
    rows = [
        (report.event.job_id, topic, report.value, encode_headers(report.trace))
        for report, topic in endings
    ]
    await connection.execute(_ADD, *columns(rows))
    return sum(topic is not None for _, topic in endings)


async def address_held(
    connection: asyncpg.Connection, jobs: Sequence[tuple[UUID, str | None]]
) -> int:
    """The records of these jobs are known now: send their held replies, or drop those unwanted.

    `jobs` are ids with reply topics, if any. Returns how many replies can be sent now.
    """
    if not jobs:
        return 0
    addressed = await connection.execute(_ADDRESS, *columns(jobs))
    await connection.execute(_DROP_HELD, [job_id for job_id, _ in jobs])
    return int(addressed.removeprefix("UPDATE "))


def encode_headers(headers: Headers) -> str:
    # Latin-1 has a character for every byte.
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers])


def decode_headers(encoded: str) -> Headers:
    return [(name, value.encode("latin-1")) for name, value in json.loads(encoded)]
