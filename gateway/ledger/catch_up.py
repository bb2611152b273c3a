"""In which order topics are read when there is much to read: jobs, then what happened to them.

Whoever reads a backlog gets partitions in any order. The ledger holds the other topics back until
it has every job record that there was when it started: then each job is known by its first
record, and an event finds the job that it is about, as when they were published.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from gateway.ledger.positions import Offsets

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT_S = 10.0
PATIENCE_S = 30.0
"""How long nothing may happen in a partition that has to be read first."""


Lookup = Callable[[Collection[TopicPartition]], Awaitable[Offsets]]
"""A consumer's `beginning_offsets` or `end_offsets`."""


async def each_offset(lookup: Lookup, partitions: Collection[TopicPartition]) -> Offsets:
    """What `lookup` says of each partition.

    One that does not answer in time, because it has no leader, is left out with a warning.
    """
    tasks = {part: asyncio.ensure_future(lookup([part])) for part in partitions}
    if tasks:
        _, late = await asyncio.wait(tasks.values(), timeout=LOOKUP_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    found: Offsets = {}
    for part, task in tasks.items():
        if task.cancelled() or isinstance(task.exception(), KafkaError):
            log.warning("%s/%d has no leader: nothing waits for it", *part)
        else:
            found |= task.result()
    return found


class CatchUp:
    """A backlog that has to be read before other topics are."""

    def __init__(self, ends: Offsets, clock: Callable[[], float]) -> None:
        """`ends` are the offsets to reach; `clock` gives seconds."""
        self._ends = ends
        self._clock = clock
        self._left: int | None = None
        self._changed_s = clock()

    @property
    def partitions(self) -> Collection[TopicPartition]:
        return self._ends.keys()

    def is_done(self, positions: Offsets) -> bool:
        """Whether all is read, or there is no sense in waiting any longer.

        `positions` are those in Postgres, so that partitions of other gateways count too.
        """
        missing = {part: end - positions.get(part, 0) for part, end in self._ends.items()}
        missing = {part: count for part, count in missing.items() if count > 0}
        left = sum(missing.values())
        if left != self._left:
            self._left, self._changed_s = left, self._clock()
        if left and self._clock() - self._changed_s >= PATIENCE_S:
            named = ", ".join(f"{part.topic}/{part.partition}" for part in sorted(missing))
            log.warning("the ledger goes on without %d records of %s, which stay away", left, named)
            return True
        return not left
