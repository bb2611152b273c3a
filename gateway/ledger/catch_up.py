"""In which order topics are read when there is much to read: jobs, then what happened to them.

Whoever reads a backlog gets partitions in any order. The ledger holds the other topics back until
it has every job record that there was when it started: then each job is known by its first
record, and an event finds the job that it is about, as when they were published. Job records are
written together as far as possible, so that of several with one id the first can be told.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from gateway.ledger.positions import Offsets

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT_S = 10.0
PATIENCE_S = 30.0
"""How long nothing may happen in a partition that has to be read first."""
TOGETHER_RECORDS = 5_000
TOGETHER_S = 1.0
"""How long one partition's records may wait for another's."""


Lookup = Callable[[Collection[TopicPartition]], Awaitable[Offsets]]
"""A consumer's `beginning_offsets` or `end_offsets`."""


async def each_offset(lookup: Lookup, partitions: Collection[TopicPartition]) -> Offsets:
    """What `lookup` says of each partition.

    One that does not answer in time, because it has no leader, is left out with a warning.
    """
    tasks = {part: asyncio.ensure_future(lookup([part])) for part in partitions}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=LOOKUP_TIMEOUT_S)
    finally:
        for task in tasks.values():
            task.cancel()  # of those that are late, or of all when we are cancelled ourselves
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    found: Offsets = {}
    for part, task in tasks.items():
        if task.cancelled() or isinstance(task.exception(), KafkaError):
            log.warning("%s/%d has no leader: nothing waits for it", *part)
        else:
            found |= task.result()
    return found


async def poll_together(
    consumer: AIOKafkaConsumer, ends: Offsets
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """One poll of all that the partitions of `ends` have before these offsets.

    It returns less when that are more than TOGETHER_RECORDS, or after TOGETHER_S.
    """
    polled: dict[TopicPartition, list[ConsumerRecord]] = {}
    room, waiting = TOGETHER_RECORDS, set(ends)
    give_up_s = time.monotonic() + TOGETHER_S
    while room > 0 and waiting and (left_s := give_up_s - time.monotonic()) > 0:
        more = await consumer.getmany(timeout_ms=int(left_s * 1000), max_records=room)
        for part, records in more.items():
            polled.setdefault(part, []).extend(records)
            room -= len(records)
            if records[-1].offset + 1 >= ends.get(part, 0):
                waiting.discard(part)
    return polled


class CatchUp:
    """A backlog that has to be read before other topics are."""

    def __init__(self, ends: Offsets, clock: Callable[[], float]) -> None:
        """`ends` are the offsets to reach; `clock` gives seconds."""
        self._ends = ends
        self._clock = clock
        self._missing: int | None = None
        self._changed_s = clock()

    @property
    def partitions(self) -> Collection[TopicPartition]:
        return self._ends.keys()

    def left(self, positions: Offsets) -> Offsets:
        """The offsets to reach in those partitions of `positions` that are not there yet."""
        return {
            part: self._ends[part]
            for part in self._ends.keys() & positions.keys()
            if positions[part] < self._ends[part]
        }

    def is_done(self, positions: Offsets) -> bool:
        """Whether all is read, or there is no sense in waiting any longer.

        `positions` are those in Postgres, so that partitions of other gateways count too.
        """
        missing = {part: end - positions.get(part, 0) for part, end in self._ends.items()}
        missing = {part: count for part, count in missing.items() if count > 0}
        left = sum(missing.values())
        if left != self._missing:
            self._missing, self._changed_s = left, self._clock()
        if left and self._clock() - self._changed_s >= PATIENCE_S:
            named = ", ".join(f"{part.topic}/{part.partition}" for part in sorted(missing))
            log.warning("the ledger goes on without %d records of %s, which stay away", left, named)
            return True
        return not left
