"""Which record a job's id belongs to, as far as this worker knows.

The first record with an id is the job; the ledger decides which one that is. A worker sees some
partitions only, and some of those later than the ledger does: a batch job may be in its queue long
before the worker reads it. So a worker refuses a record only if another one with its id was
certainly there before. In doubt it runs both, and the ledger drops what is reported about the
second.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from niyama.kafka import ConsumedRecord
from schemas.event import Source

MAX_IDS = 10_000


class Holder(NamedTuple):
    """The first record that this worker read with some id: one is remembered of every job."""

    topic: str
    partition: int
    offset: int
    read_s: float
    """When it was read first, in UTC epoch seconds."""

    @property
    def source(self) -> Source:
        return Source(topic=self.topic, partition=self.partition, offset=self.offset)

    def shares_partition(self, record: ConsumedRecord) -> bool:
        return (self.topic, self.partition) == (record.topic, record.partition)

    def precedes(self, record: ConsumedRecord) -> bool:
        """Whether it was certainly in Kafka before `record`."""
        if self.shares_partition(record):
            return self.offset < record.offset
        # A producer that backdates its record gains nothing: it runs, and counts for nothing.
        return self.read_s < record.timestamp / 1000


class IdHolders:
    """Remembers the last MAX_IDS ids, and those in flight; forgets the oldest others first."""

    def __init__(self, in_flight: Callable[[UUID], bool]) -> None:
        """`in_flight` says whether a job with this id is."""
        self._in_flight = in_flight
        self._holders: OrderedDict[UUID, Holder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def claim(self, job_id: UUID, record: ConsumedRecord, now_s: float) -> Source | None:
        """The record that had the id before this one, which was read at `now_s` (UTC epoch
        seconds). None: as far as is known, the id is this record's; that is remembered."""
        known = self._holders.get(job_id)
        if known is not None and known.precedes(record):
            return known.source
        if known is None or (known.shares_partition(record) and record.offset < known.offset):
            self._holders[job_id] = Holder(record.topic, record.partition, record.offset, now_s)
            self._forget()
        return None

    def _forget(self) -> None:
        kept = 0
        while len(self._holders) > MAX_IDS:
            oldest = next(iter(self._holders))
            if kept < MAX_IDS and self._in_flight(oldest):
                self._holders.move_to_end(oldest)
                kept += 1
            else:
                del self._holders[oldest]
