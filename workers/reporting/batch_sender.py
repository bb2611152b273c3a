"""Everything that a worker sends to Kafka.

Each topic has a producer and a budget of its own: a tokens topic without a leader, or without a
topic, must not keep events from being delivered.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

from workers.reporting.exact_sender import ExactSender
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.topic_sender import Allowed, TopicSender

LAST_BEST_EFFORT_S = 2.0
"""How long a flush waits for records that may be lost."""


class BatchSender:
    """Sends records to several topics. `run` must be running."""

    def __init__(self, events: ExactSender, *others: TopicSender) -> None:
        """`events` is exact, the others are best-effort."""
        self._events = events
        self._others = others
        self._senders: Mapping[str, TopicSender] = {
            sender.topic: sender for sender in (events, *others)
        }

    @property
    def topics(self) -> Collection[TopicSender]:
        """The sender of each topic."""
        return self._senders.values()

    @property
    def full(self) -> bool:
        """Too many events wait for Kafka: no more work is to be taken."""
        return self._events.full

    def put(self, topic: str, record: OutgoingRecord) -> None:
        """Queue `record`. Records with the same key arrive in the order of their `put`."""
        self._senders[topic].put(record)

    async def flush(self) -> None:
        """Return when every event has been delivered, and the rest if that is quick."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_BEST_EFFORT_S):
                for sender in self._others:  # first: a dead letter's delivery may make an event
                    await sender.flush()
        await self._events.flush()

    async def run(self, allowed: Allowed) -> None:
        """Send until cancelled; `allowed` is awaited before each batch.

        Raises UnavailableError when Kafka rejects events for good.
        """
        running = [asyncio.create_task(sender.run(allowed)) for sender in self._senders.values()]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
