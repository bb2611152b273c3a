"""Requests that wait for a job to end."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from gateway.database import UNREACHABLE
from niyama.logs import Throttle
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
"""Between two questions about all jobs that are followed."""
TICK_S = 0.02
"""Between two questions about those that are followed since the last one."""
MAX_FOLLOWERS = 10_000
"""Each has a connection open. Beyond that, requests do not wait."""
TURN_TIMEOUT_S = 60.0

NotOpen = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, bool]]]
"""Returns those of the jobs that are not open, and whether they are known, that is, have ended.
Raises one of UNREACHABLE."""


class Followers:
    """Wakes those who wait for a job, soon after it has ended.

    The ledger's consumer of this gateway tells it which jobs ended just now. For jobs that another
    gateway reads, the ledger is asked: one query for all of them, and only while somebody waits.
    """

    def __init__(
        self,
        not_open: NotOpen,
        is_expected: Callable[[UUID], bool],
        stopping: asyncio.Event,
        readers: int,
    ) -> None:
        """`is_expected`: the ledger will know the job soon. `stopping` wakes everybody when it is
        set. `readers` of those who were woken may read at a time.
        """
        self._not_open = not_open
        self._is_expected = is_expected
        self._stopping = stopping
        self._readers = asyncio.Semaphore(readers)
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._new: set[UUID] = set()
        self._followers = 0
        self._polling: asyncio.Task[None] | None = None
        self._throttle = Throttle()

    async def wait(self, job_id: UUID, timeout_s: float) -> None:
        """Return when the job has ended or is unknown, after `timeout_s`, or at the gateway's end.

        Returns immediately when too many wait already.
        """
        if self._followers >= MAX_FOLLOWERS or self._stopping.is_set():
            return
        woken = asyncio.Event()
        self._waiting[job_id].add(woken)
        self._new.add(job_id)
        self._followers += 1
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll_while_somebody_waits())
        try:
            await is_set_within(woken, timeout_s)
        finally:
            self._followers -= 1
            self._waiting[job_id].discard(woken)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold this to read what became of the job: thousands may have been woken together.

        They leave connections to other requests, and may wait longer for one. Raises TimeoutError.
        """
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await self._readers.acquire()
        try:
            yield
        finally:
            self._readers.release()

    def wake(self, ended: Collection[UUID]) -> None:
        """Wake the requests that wait for one of the jobs."""
        for job_id in self._waiting.keys() & ended:
            for woken in self._waiting[job_id]:
                woken.set()

    async def _poll_while_somebody_waits(self) -> None:
        clock = asyncio.get_running_loop().time
        ask_all_at_s = clock()
        while self._waiting and not self._stopping.is_set():
            if clock() >= ask_all_at_s:
                ask_all_at_s = clock() + POLL_INTERVAL_S
                self._new = set(self._waiting)
            if self._new:
                await self._ask(self._new)
            await asyncio.sleep(TICK_S)
        self.wake(list(self._waiting))

    async def _ask(self, job_ids: set[UUID]) -> None:
        self._new = set()
        try:
            not_open = await self._not_open(job_ids)
        except UNREACHABLE as error:
            self._throttle.warning(log, "followers of jobs wait for Postgres: %r", error)
            return
        self.wake([each for each in not_open if not_open[each] or not self._is_expected(each)])
