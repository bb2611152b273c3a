"""What the relay does while it holds the lease."""

import asyncio
import logging
import time

from gateway.replies.delivery import Deliveries
from gateway.replies.sent_log import SentLog
from gateway.replies.turns import Turns
from gateway.replies.waiting import WaitingReplies
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.25
CHECK_INTERVAL_S = 1.0
NOTE_INTERVAL_S = 10.0
"""What the next relay has to read first, and what this one remembers, grows for this long."""
TIDY_INTERVAL_S = 3600.0
TOPICS_PER_SCAN = 256
STOP_GRACE_S = 5.0


class Term:
    """Gives every topic that has replies waiting its turns."""

    def __init__(self, waiting: WaitingReplies, sent: SentLog, deliveries: Deliveries) -> None:
        self._waiting = waiting
        self._sent = sent
        self._deliveries = deliveries
        self._turns = Turns()
        self._serving: dict[asyncio.Task[None], str] = {}
        self._scanned = ""
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There is something in the outbox now."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the current batches."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until `stop`. Raises one of `delivery.OUTAGES`."""
        # Beside the turns: it may have to wait for a transaction that only a turn can end.
        upkeep = asyncio.create_task(self._keep_up())
        try:
            while not self._stopping:
                self._wake.clear()
                self._finish_turns()
                if upkeep.done():
                    upkeep.result()
                more = await self._scan()
                self._start_turns()
                if more:
                    continue
                await is_set_within(self._wake, POLL_INTERVAL_S)
            if self._serving:
                await asyncio.wait(self._serving, timeout=STOP_GRACE_S)
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await self._abandon_turns()

    async def _keep_up(self) -> None:
        """Know what was sent: now and then, and when the database is not the one we know."""
        next_note_s, next_tidy_s = time.monotonic() + NOTE_INTERVAL_S, time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= next_note_s or not await self._sent.is_current():
                await self._sent.catch_up()
                next_note_s = now_s + NOTE_INTERVAL_S
            if now_s >= next_tidy_s:
                await self._sent.forget()
                await self._waiting.forget_idle_topics()
                next_tidy_s = now_s + TIDY_INTERVAL_S
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _scan(self) -> bool:
        """Look for topics that have replies waiting, some at a time, in the order of names.

        Returns whether there may be more. The look at all of them does not pause: a topic that
        works may sort behind thousands that fail.
        """
        if not self._turns.wants_more:
            return False
        topics = await self._waiting.topics(self._scanned, TOPICS_PER_SCAN)
        self._turns.offer(topics)
        self._scanned = topics[-1].name if len(topics) == TOPICS_PER_SCAN else ""
        return bool(self._scanned)

    def _start_turns(self) -> None:
        for topic in self._turns.start():
            task = asyncio.create_task(self._deliveries.serve(topic))
            task.add_done_callback(lambda _: self._wake.set())
            self._serving[task] = topic

    def _finish_turns(self) -> None:
        for task in [task for task in self._serving if task.done()]:
            self._turns.finish(self._serving.pop(task))
            task.result()

    async def _abandon_turns(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._deliveries.close()
