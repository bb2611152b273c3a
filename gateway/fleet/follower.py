"""Follows the workers' load reports for as long as the gateway runs."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faststream import FastStream
from faststream.kafka.subscriber.usecase import BatchSubscriber

from gateway.fleet.fleet import Fleet
from niyama import kafka
from niyama.retry import retry
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
SILENT_AFTER_S = 10.0
"""A partition of which Kafka has said nothing for so long is not being read. A broker answers each
fetch within half a second, also when there is nothing new."""


class LoadFollower:
    """Starts the application as soon as Kafka answers. Nothing waits for it."""

    def __init__(
        self,
        application: FastStream,
        fleet: Fleet,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives monotonic seconds."""
        self._application = application
        self._fleet = fleet
        self._reading = Reading(clock)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow until `stop`. Kafka may come and go; the fleet is told whether it is there."""
        try:
            await retry(self._start, KafkaError, notice="load reports cannot be read yet", log=log)
            while not await is_set_within(self._stopping, LOOK_INTERVAL_S):
                await self.look()
        finally:
            self._fleet.following, self._fleet.unread = False, None
            await self._application.stop()

    async def look(self) -> None:
        """See whether reports are being read, and how many are not yet."""
        (subscriber,) = self._application.brokers[0].subscribers
        consumer = cast(BatchSubscriber, subscriber).consumer
        was_following = self._fleet.following
        if consumer is not None and self._reading.goes_on(consumer):
            self._fleet.following, self._fleet.unread = True, await _unread(consumer)
        else:
            self._fleet.following, self._fleet.unread = False, None
        if was_following and not self._fleet.following:
            log.warning("load reports are not being read: what is known of workers gets old")

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    async def _start(self) -> None:
        if self._stopping.is_set():
            return
        try:
            await self._application.start()
        except KafkaError:
            await self._application.stop()
            raise


class Reading:
    """Whether a consumer hears of its partitions: what fails is tried again without a word."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._heard: dict[TopicPartition, tuple[int, float]] = {}
        """By partition, when Kafka said something of it last: by its own count, and by ours."""

    def goes_on(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether Kafka has lately answered a fetch of every partition. Call it often."""
        now_s, assigned = self._clock(), consumer.assignment()
        before, self._heard = self._heard, {}
        for part in assigned:
            stamp = consumer.last_poll_timestamp(part)
            if stamp is not None:
                known = before.get(part)
                self._heard[part] = known if known and known[0] == stamp else (stamp, now_s)
        oldest_s = now_s - SILENT_AFTER_S
        return bool(assigned) and all(
            part in self._heard and self._heard[part][1] > oldest_s for part in assigned
        )


async def _unread(consumer: AIOKafkaConsumer) -> int:
    """Records that the partitions have and that were not read."""
    unread = 0
    for part in consumer.assignment():
        position = await kafka.position_of(consumer, part)
        if position is not None and part in consumer.assignment():  # still
            unread += max(0, (consumer.highwater(part) or 0) - position)
    return unread
