"""How many records the ledger has not read: also, and above all, while it reads none."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer

from gateway.ledger.positions import Offsets, Positions, each_offset

LOOK_INTERVAL_S = 5.0


class LedgerLag:
    """The lag of this gateway's partitions, for who watches it from outside.

    A partition that is being fetched says itself where its log ends. Those that are not, because
    the ledger waits for Postgres or reads other topics first, have to be asked for.
    """

    def __init__(self) -> None:
        self._watch: LagWatch | None = None
        self._last: Mapping[str, int] = {}
        """When Kafka was lost."""

    def by_topic(self) -> Mapping[str, int]:
        """Records between the last offsets that are known and the ends of the logs; as of before
        while there is no consumer to ask.

        A partition of which either is not known does not count. May be called in any thread.
        """
        watch = self._watch
        return self._last if watch is None else watch.by_topic()

    @contextlib.asynccontextmanager
    async def watching(
        self, consumer: AIOKafkaConsumer, positions: Positions
    ) -> AsyncIterator[None]:
        """Inside, the lag is that of what `consumer` is assigned and `positions` knows of it."""
        self._watch = watch = LagWatch(consumer, positions)
        looking = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            self._watch, self._last = None, watch.by_topic()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


class LagWatch:
    """The lag of one consumer's partitions."""

    def __init__(self, consumer: AIOKafkaConsumer, positions: Positions) -> None:
        self._consumer = consumer
        self._positions = positions
        self._ends: Offsets = {}
        """Of those partitions that were not being fetched, as of the last look."""

    def by_topic(self) -> Mapping[str, int]:
        """See `LedgerLag`."""
        lags: Counter[str] = Counter()
        assigned, ends = self._consumer.assignment(), self._ends
        for part, offset in self._positions.reached().items():
            if part in assigned:
                end = ends.get(part, self._consumer.highwater(part))
                if end is not None:
                    lags[part.topic] += max(0, end - offset)
        return lags

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Ask for the ends of the logs that are not being fetched."""
        paused = self._consumer.paused()
        waiting = [
            part
            for part in self._consumer.assignment()
            if part in paused or self._consumer.highwater(part) is None
        ]
        lookup = self._consumer.end_offsets
        self._ends = await each_offset(lookup, waiting, level=logging.DEBUG)
