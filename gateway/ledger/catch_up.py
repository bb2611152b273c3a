"""In which order topics are read when there is a backlog: jobs, then what happened to them.

Kafka serves the partitions of a backlog in any order. The ledger holds the other topics back until
it has every job record that there was when it started: then each job is known by its first
record, and an event finds the job that it is about, as when they were published. Job records are
written together as far as possible, so that of several with one id the first can be told.
"""

import logging
import time
from collections.abc import Callable, Collection

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from gateway.ledger.positions import Offsets

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long catching up may make no progress."""
TOGETHER_RECORDS = 5_000
"""The most that are written at once, unless that is too much for Postgres."""
TOGETHER_S = 1.0
"""How long one partition's records may wait for another's."""


async def poll_together(
    consumer: AIOKafkaConsumer, ends: Offsets, max_records: int
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """One poll of all that the partitions of `ends` have before these offsets.

    It returns less when there are more than `max_records`, or after TOGETHER_S.
    """
    polled: dict[TopicPartition, list[ConsumerRecord]] = {}
    room, waiting = max_records, set(ends)
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
        """Whether all is read, or waiting any longer makes no sense.

        `positions` are those in Postgres, so that partitions of other gateways count too.
        """
        missing = {part: end - positions.get(part, 0) for part, end in self._ends.items()}
        missing = {part: count for part, count in missing.items() if count > 0}
        left = sum(missing.values())
        if left != self._missing:
            self._missing, self._changed_s = left, self._clock()
        if left and self._clock() - self._changed_s >= PATIENCE_S:
            named = ", ".join(f"{part.topic}/{part.partition}" for part in sorted(missing))
            log.warning(
                "catching up made no progress for %g s; going on without %d records of %s",
                *(PATIENCE_S, left, named),
            )
            return True
        return not left
