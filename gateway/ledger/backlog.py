"""How much is open in the ledger, asked for now and then: what a scrape shows never waits."""

import asyncio
import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.database import UNREACHABLE, read
from niyama.telemetry import instruments
from niyama.telemetry.instrument import Instrument
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

INTERVAL_S = 15.0
COUNTED_ROWS = 100_000
"""More are not counted: a count reads every row that it counts."""

_ROWS = {
    instruments.OPEN_JOBS: "jobs WHERE finished_at IS NULL",
    instruments.OVERDUE_JOBS: "jobs WHERE finished_at IS NULL AND deadline_at < now()",
    instruments.REPLIES_PENDING: "reply_outbox WHERE reply_topic IS NOT NULL "
    "AND undeliverable_at IS NULL",
    instruments.REPLIES_UNDELIVERABLE: "reply_outbox WHERE undeliverable_at IS NOT NULL",
}
_COUNTS = text(
    "SELECT "
    + ", ".join(
        f"(SELECT count(*) FROM (SELECT FROM {rows} LIMIT {COUNTED_ROWS}) AS counted)"
        for rows in _ROWS.values()
    )
)


class Backlog:
    """A part of the gateway: keeps the counts up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.counts: dict[Instrument, int] = {}
        """As of the last answer; empty while Postgres is away."""
        self._engine = engine
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Count until `stop`."""
        while not self._stopping.is_set():
            await self._count()
            await is_set_within(self._stopping, INTERVAL_S)

    def stop(self) -> None:
        self._stopping.set()

    async def _count(self) -> None:
        try:
            (row,) = await read(self._engine, _COUNTS)
        except UNREACHABLE as error:
            log.debug("the ledger's backlog is not counted: %r", error)
            self.counts = {}
        else:
            self.counts = dict(zip(_ROWS, row, strict=True))
