"""Sends terminal events to the topics that jobs named, exactly once for read-committed readers.

For a batch of one topic, the relay

(a) takes due rows from the outbox in Postgres,
(b) publishes them in one Kafka transaction, together with a note for each in `replies-sent`,
(c) deletes the rows.

Kafka alone says what was sent. Before a relay sends anything to a topic, it fences the transactions
of every earlier relay to that topic, and then reads the notes into Postgres up to their end. So it
makes no difference where the last relay died, whether it is dead at all, and whether the database
is today's, yesterday's or empty. That one gateway at a time is the relay saves work; nothing
depends on it.
"""

import asyncio
import logging
from datetime import timedelta
from uuid import uuid4

from gateway.database import connect
from gateway.replies.delivery import OUTAGES, Deliveries
from gateway.replies.lease import RENEWAL_INTERVAL_S, Lease
from gateway.replies.sent_log import SentLog
from gateway.replies.session import Session
from gateway.replies.term import Term
from gateway.replies.waiting import WaitingReplies
from gateway.settings import GatewaySettings
from niyama.retry import retry
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)


class ReplyRelay:
    """Empties the outbox, while this gateway holds the lease."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._term: Term | None = None
        self._stopping = asyncio.Event()
        self._holder = uuid4()  # after an error it need not wait for its own lease to end

    def wake(self) -> None:
        """There is something in the outbox now."""
        if self._term is not None:
            self._term.wake()

    def stop(self) -> None:
        """End `run` after the current batches."""
        self._stopping.set()
        if self._term is not None:
            self._term.stop()

    async def run(self) -> None:
        """Relay until `stop`. Kafka and Postgres may come and go."""
        while not self._stopping.is_set():
            await retry(self._take_turn, *OUTAGES, notice="replies wait in the outbox", log=log)

    async def _take_turn(self) -> None:
        """Wait for the lease, then relay until it is lost, an error, or `stop`."""
        if self._stopping.is_set():
            return
        # On a connection of its own, so that no other statement delays its renewal.
        connection = await connect(self._settings, "lease")
        lease = Lease(connection, self._holder)
        try:
            while not await lease.hold():
                if await is_set_within(self._stopping, RENEWAL_INTERVAL_S):
                    return
            await self._relay(lease)
            await lease.release()
        finally:
            connection.terminate()

    async def _relay(self, lease: Lease) -> None:
        """Relay until `stop`, or until the lease is lost."""
        keeping = asyncio.create_task(lease.keep())
        relaying = asyncio.create_task(self._deliver())
        try:
            await asyncio.wait({keeping, relaying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (keeping, relaying):
                task.cancel()
            outcomes = await asyncio.gather(keeping, relaying, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def _deliver(self) -> None:
        connection = await connect(self._settings, "replies", lock_timeout="5s")
        session = Session(connection)
        waiting = WaitingReplies(session, timedelta(seconds=self._settings.reply_timeout_s))
        try:
            async with SentLog(self._settings, session) as sent:
                self._term = Term(waiting, sent, Deliveries(self._settings, waiting, sent))
                if not self._stopping.is_set():
                    await self._term.run()
        finally:
            self._term = None
            connection.terminate()
