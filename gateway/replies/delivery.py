"""One topic's turn: from its rows in the outbox to its records in Kafka."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from gateway.database import UNREACHABLE
from gateway.ledger.reply_topics import ReplyTopicRule
from gateway.replies.lane import Lane, LaneError, TooLargeError
from gateway.replies.sent_log import SentLog
from gateway.replies.waiting import Reply, WaitingReplies
from gateway.settings import GatewaySettings
from niyama import kafka
from niyama.logs import Throttle

log = logging.getLogger(__name__)

OUTAGES = (KafkaError, *UNREACHABLE)
"""Errors that concern every topic: Kafka or Postgres as a whole, or another relay."""

BATCH_REPLIES = 500
BATCHES_PER_TURN = 20
PROBE_TIMEOUT_S = 5.0
MAX_IDLE_LANES = 16


class Deliveries:
    """Sends what waits for a topic. Keeps the lanes that were used last open."""

    def __init__(self, settings: GatewaySettings, waiting: WaitingReplies, sent: SentLog) -> None:
        self._settings = settings
        self._rule = ReplyTopicRule.of(settings)
        self._waiting = waiting
        self._sent = sent
        self._idle: OrderedDict[str, Lane] = OrderedDict()
        self._throttle = Throttle()

    async def serve(self, topic: str) -> None:
        """Send replies to `topic` until none is due, it fails, or others should have a turn.

        Raises one of OUTAGES; a fault of this topic alone is written into Postgres.
        """
        try:
            if refusal := self._rule.refusal(topic):
                await self._waiting.refuse(topic, refusal)
                log.warning("undeliverable replies: %s", refusal)
                return
            await self._serve_allowed(topic)
        except LaneError as error:
            await self._blame(topic, str(error))
        except OUTAGES:
            raise
        except Exception as error:  # a bug, maybe; the other topics get their replies
            log.exception("sending replies to %s failed unexpectedly", topic)
            await self._blame(topic, repr(error))

    async def close(self) -> None:
        """Close every lane that is open. No topic is being served."""
        lanes = list(self._idle.values())
        self._idle.clear()
        await asyncio.gather(*(lane.close() for lane in lanes))

    async def _serve_allowed(self, topic: str) -> None:
        limit = BATCH_REPLIES
        for _ in range(BATCHES_PER_TURN):
            try:
                if not await self._send_batch(topic, limit):
                    return
                limit = min(2 * limit, BATCH_REPLIES)
            except TooLargeError as error:
                # Records for one partition travel together: halve until one reply is to blame.
                limit = max(1, len(error.replies) // 2)
                if len(error.replies) == 1:
                    await self._waiting.failed(error.replies[0], str(error))

    async def _send_batch(self, topic: str, limit: int) -> bool:
        """Returns whether there was anything to do. Raises TooLargeError and LaneError."""
        async with self._lane(topic) as lane:
            # Asked for only now: what an earlier relay has sent is known since the lane is open.
            if await self._waiting.drop_sent(topic, limit):
                return True
            replies = await self._due(topic, limit)
            if replies:
                await lane.send(replies)
                self._sent.remember(reply.job_id for reply in replies)
                await self._waiting.sent(topic, replies)
        return bool(replies)

    async def _due(self, topic: str, limit: int) -> list[Reply]:
        replies = await self._waiting.due(topic, self._sent.noted, limit)
        if not self._sent.remembers_any(reply.job_id for reply in replies):
            return replies
        # The rows are back: the database was restored since.
        await self._sent.catch_up()
        return await self._waiting.due(topic, self._sent.noted, limit)

    @asynccontextmanager
    async def _lane(self, topic: str) -> AsyncIterator[Lane]:
        """An open lane, which is kept for another batch unless this one fails."""
        lane = self._idle.pop(topic, None)
        is_new = lane is None
        lane = lane or Lane(self._settings, topic)
        try:
            if is_new:
                await lane.open()
                await self._sent.catch_up()
            yield lane
        except BaseException:
            await lane.close()
            raise
        self._idle[topic] = lane
        if len(self._idle) > MAX_IDLE_LANES:
            _, oldest = self._idle.popitem(last=False)
            await oldest.close()

    async def _blame(self, topic: str, reason: str) -> None:
        """Let `topic` wait. Raises KafkaError or TimeoutError when all of Kafka does not answer."""
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await kafka.probe(self._settings)
        self._throttle.warning(log, "delivery to %s is postponed: %s", topic, reason)
        await self._waiting.topic_failed(topic, reason)
