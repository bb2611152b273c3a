"""Requests that wait for a job to end."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from gateway.database import UNREACHABLE
from niyama.logs import Throttle

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
MAX_FOLLOWERS = 10_000
"""Each has a connection open. Who comes when there are as many does not wait."""

EndedAmong = Callable[[Collection[UUID]], Awaitable[Collection[UUID]]]
"""Returns which of the jobs have ended. Raises one of UNREACHABLE."""


class Followers:
    """Wakes those who wait for a job, soon after it has ended.

    The ledger's consumer of this gateway tells it which jobs ended just now. For jobs that another
    gateway reads, the ledger is asked: one query for all of them, and only while somebody waits.
    """

    def __init__(self, ended_among: EndedAmong, stopping: asyncio.Event) -> None:
        """When `stopping` is set, everybody is woken."""
        self._ended_among = ended_among
        self._stopping = stopping
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._followers = 0
        self._polling: asyncio.Task[None] | None = None
        self._throttle = Throttle()

    async def wait(self, job_id: UUID, timeout_s: float) -> None:
        """Return when the job has ended, after `timeout_s`, or when the gateway stops.

        Returns immediately when too many wait already.
        """
        if self._followers >= MAX_FOLLOWERS or self._stopping.is_set():
            return
        woken = asyncio.Event()
        self._waiting[job_id].add(woken)
        self._followers += 1
        self._poll()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await woken.wait()
        finally:
            self._followers -= 1
            self._waiting[job_id].discard(woken)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def wake(self, ended: Collection[UUID]) -> None:
        """Wake whoever waits for one of the jobs."""
        for job_id in self._waiting.keys() & ended:
            for woken in self._waiting[job_id]:
                woken.set()

    def _poll(self) -> None:
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll_while_somebody_waits())

    async def _poll_while_somebody_waits(self) -> None:
        while self._waiting and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), POLL_INTERVAL_S)
            try:
                self.wake(await self._ended_among(list(self._waiting)))
            except UNREACHABLE as error:
                self._throttle.warning(log, "followers of jobs wait for Postgres: %r", error)
        self.wake(list(self._waiting))
