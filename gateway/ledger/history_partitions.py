"""Daily partitions of `job_events`, made ahead of need.

Old days can be dropped in one step (`DROP TABLE job_events_20261121`). An event of a day
that has no partition goes to the default one, so none is ever refused.
"""

import logging
from datetime import UTC, date, datetime, timedelta

import asyncpg

from gateway.database import AdvisoryLock, connect
from gateway.settings import DatabaseSettings

log = logging.getLogger(__name__)

DAYS_AHEAD = 7
STATEMENT_TIMEOUT_S = 600.0
"""Postgres reads the default partition before it takes a new one. A worker with a wrong clock may
have filled it."""


def days_to_cover(today: date) -> list[date]:
    """From yesterday, because clocks differ, to `DAYS_AHEAD` days from `today`."""
    return [today + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]


async def ensure_coming_days(settings: DatabaseSettings) -> None:
    """Create the partitions that are missing now. Raises one of UNREACHABLE."""
    connection = await connect(settings, "partitions", statement_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        await ensure_partitions(connection, datetime.now(UTC).date())
    finally:
        await connection.close()


async def ensure_partitions(connection: asyncpg.Connection, today: date) -> None:
    """Create the partitions that are missing as of `today`. Gateways may do so concurrently."""
    for day in days_to_cover(today):
        try:
            async with connection.transaction():
                key = AdvisoryLock.PARTITIONS.value
                await connection.execute("SELECT pg_advisory_xact_lock($1)", key)
                await _ensure_day(connection, day)
        except asyncpg.CheckViolationError:
            # A worker with a wrong clock sent events of that day before it had a partition.
            log.warning("events of %s stay in the default partition of job_events", day)


async def _ensure_day(connection: asyncpg.Connection, day: date) -> None:
    name = f"job_events_{day:%Y%m%d}"
    if await connection.fetchval("SELECT to_regclass($1)", name) is None:
        # Attached, because CREATE TABLE ... PARTITION OF would keep everybody from all of
        # job_events, and not only from its default partition, while Postgres reads that.
        await connection.execute(f"CREATE TABLE {name} (LIKE job_events)")
        await connection.execute(
            f"ALTER TABLE job_events ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
        )
        log.debug("partition %s created", name)
