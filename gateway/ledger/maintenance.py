"""What the ledger's tables need now and then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.database import UNREACHABLE
from gateway.ledger.history_partitions import ensure_coming_days
from gateway.ledger.orphans import delete_orphans
from gateway.settings import GatewaySettings
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

INTERVAL_S = 3600.0
RETRY_S = 300.0
"""After one that could not be done."""


async def maintain(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Do what is due, now and every hour until `stopping` is set."""
    while not stopping.is_set():
        done = [
            await _done(ensure_coming_days, settings, "partitions of job_events are not made"),
            await _done(delete_orphans, settings, "rows without a job are not deleted"),
        ]
        await is_set_within(stopping, INTERVAL_S if all(done) else RETRY_S)


async def _done(
    task: Callable[[GatewaySettings], Awaitable[None]], settings: GatewaySettings, otherwise: str
) -> bool:
    """Whether Postgres let us do the task."""
    try:
        await task(settings)
    except UNREACHABLE as error:
        log.warning("%s, next try in %.0f s: %r", otherwise, RETRY_S, error)
        return False
    return True
