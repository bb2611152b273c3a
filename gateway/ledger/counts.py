"""How much is open in the ledger, asked for now and then: what a scrape shows never waits."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.database import UNREACHABLE, is_outage, read
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

INTERVAL_S = 15.0
MOST_OF_THE_TIME = 0.05
"""A larger share is never spent on counting, which every gateway does."""
COUNTED_ROWS = 100_000
"""More are not counted: a count reads every row that it counts."""
MAX_POOLS = 1_000
"""Shown as 0 when nothing of them is open any more; events may name any number of pools."""
UNKNOWN_POOL = "unknown"
"""Of jobs of which only events have been read so far."""


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What is open of one pool's jobs, each at most COUNTED_ROWS of all pools together."""

    open_jobs: int = 0
    overdue_jobs: int = 0
    """Of the open jobs, those whose deadline has passed without the token that it is for."""
    pending_replies: int = 0
    undeliverable_replies: int = 0


_OPEN = "SELECT pool FROM jobs WHERE finished_at IS NULL"
_REPLIES = "SELECT pool FROM reply_outbox LEFT JOIN jobs USING (job_id)"
_ROWS = {
    "open_jobs": _OPEN,
    "overdue_jobs": f"{_OPEN} AND deadline_at < now() "
    "AND (kind <> 'interactive' OR first_token_at IS NULL)",
    "pending_replies": f"{_REPLIES} WHERE reply_outbox.reply_topic IS NOT NULL "
    "AND undeliverable_at IS NULL",
    "undeliverable_replies": f"{_REPLIES} WHERE undeliverable_at IS NOT NULL",
}
"""Of each field of `PoolCounts`: the pools of the rows that are counted."""
_COUNTS = text(
    " UNION ALL ".join(
        f"(SELECT '{field}', coalesce(pool, '{UNKNOWN_POOL}'), count(*) "
        f"FROM ({rows} LIMIT {COUNTED_ROWS}) AS counted GROUP BY 2)"
        for field, rows in _ROWS.items()
    )
)


class LedgerCounts:
    """A part of the gateway: keeps the counts up to date."""

    def __init__(
        self, engine: AsyncEngine, pool: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`pool` is shown even when nothing of it is open. `clock` gives monotonic seconds."""
        self.by_pool: Mapping[str, PoolCounts] = {}
        """As of the last answer: of the pools that have a count, and of those that had one."""
        self.pools: Sequence[str] = [pool]
        """The gateway's own, then those with open jobs, the most first."""
        self._engine = engine
        self._pool = pool
        self._clock = clock
        self._shown = {pool}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Count until `stop`."""
        while not self._stopping.is_set():
            started_s = self._clock()
            await self._count()
            took_s = self._clock() - started_s
            await is_set_within(self._stopping, max(INTERVAL_S, took_s / MOST_OF_THE_TIME))

    def stop(self) -> None:
        self._stopping.set()

    async def _count(self) -> None:
        try:
            rows = await read(self._engine, _COUNTS)
        except UNREACHABLE as error:
            # The last counts stay: alerts on what is open are not to end with Postgres.
            level = logging.DEBUG if is_outage(error) else logging.ERROR
            log.log(level, "what is open in the ledger is not counted: %r", error)
            return
        counts: dict[str, dict[str, int]] = {pool: {} for pool in self._shown}
        for field, pool, count in rows:
            counts.setdefault(pool, {})[field] = count
        by_pool = {pool: PoolCounts(**known) for pool, known in counts.items()}
        with_jobs = [pool for pool, each in by_pool.items() if each.open_jobs]
        with_jobs.sort(key=lambda pool: -by_pool[pool].open_jobs)
        self.pools = list(dict.fromkeys([self._pool, *with_jobs]))
        if len(self._shown) < MAX_POOLS:
            self._shown |= counts.keys()
        self.by_pool = by_pool
