"""Where the ledger is in its partitions: the next offset of each, according to Postgres."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from gateway.ledger.writer import OffsetStep
from niyama import kafka

log = logging.getLogger(__name__)

_LOAD = """
WITH missing AS (
    INSERT INTO ledger_offsets (topic, partition, next_offset)
    SELECT topic, partition, 0 FROM unnest($1::text[], $2::integer[]) AS own (topic, partition)
    ON CONFLICT DO NOTHING
)
SELECT topic, partition, coalesce(next_offset, 0)
FROM unnest($1::text[], $2::integer[]) AS own (topic, partition)
LEFT JOIN ledger_offsets USING (topic, partition)
"""
_READ = """
SELECT topic, partition, next_offset FROM ledger_offsets
JOIN unnest($1::text[], $2::integer[]) AS wanted (topic, partition) USING (topic, partition)
"""

Offsets = dict[TopicPartition, int]

Lookup = Callable[[Collection[TopicPartition]], Awaitable[Offsets]]
"""A consumer's `beginning_offsets` or `end_offsets`."""

LOOKUP_TIMEOUT_S = 10.0


async def load_offsets(
    connection: asyncpg.Connection, partitions: Collection[TopicPartition]
) -> Offsets:
    """The next offset of each, which has a row from now on."""
    return await _offsets(connection, _LOAD, partitions)


async def read_offsets(
    connection: asyncpg.Connection, partitions: Collection[TopicPartition]
) -> Offsets:
    """The next offset of those that have a row, whichever gateway reads them."""
    return await _offsets(connection, _READ, partitions)


async def _offsets(
    connection: asyncpg.Connection, query: str, partitions: Collection[TopicPartition]
) -> Offsets:
    topics, numbers = [each.topic for each in partitions], [each.partition for each in partitions]
    rows = await connection.fetch(query, topics, numbers)
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}


async def each_offset(
    lookup: Lookup, partitions: Collection[TopicPartition], *, level: int = logging.WARNING
) -> Offsets:
    """What `lookup` says of each partition.

    Those whose offsets Kafka does not give, or not in time, are left out; the log says so.
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
        if task.cancelled():
            log.log(
                level,
                "%s/%d: Kafka did not give its offsets within %g s; going on without it",
                *(*part, LOOKUP_TIMEOUT_S),
            )
        elif isinstance(error := task.exception(), KafkaError):
            log.log(
                level,
                "%s/%d: Kafka did not give its offsets (%r); going on without it",
                *(*part, error),
            )
        else:
            found |= task.result()
    return found


class Positions(ConsumerRebalanceListener):  # type: ignore[misc]
    """Which partitions are ours, and the next offset of each according to Postgres.

    A partition without a position is paused: its records are not ours to write yet. So is one that
    is held back until others have caught up.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.known: Offsets = {}
        self.assigned = False
        self._gaps: dict[TopicPartition, range] = {}
        """Before the logs that begin after the position that Postgres has."""
        self._before: Offsets = {}
        """What was known before it was forgotten, of the partitions that are still ours."""

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._forget()
        self.assigned = False

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._before = {part: self._before[part] for part in assigned if part in self._before}
        self.known = {}
        self.assigned = True
        self._consumer.pause(*assigned)

    def reached(self) -> Offsets:
        """The next record of each partition, also of those whose position has to be asked again.

        May be called in any thread.
        """
        reached, gaps = self._before | self.known, self._gaps
        return {
            part: gaps[part].stop if part in gaps and at == gaps[part].start else at
            for part, at in reached.items()
        }

    def forget(self) -> None:
        """Ask Postgres again, for every partition."""
        self._forget()
        self._consumer.pause(*self._consumer.assignment())

    def _forget(self) -> None:
        self._before = self._before | self.known
        self.known = {}

    def unknown(self) -> list[TopicPartition]:
        return sorted(self._consumer.assignment() - self.known.keys())

    def note_beginnings(self, beginnings: Offsets) -> None:
        """The logs of some partitions, whose positions are known, begin at these offsets."""
        self._gaps = {
            part: range(self.known[part], at)
            for part, at in beginnings.items()
            if self.known.get(part, at) < at
        }

    def seek(self, offsets: Offsets) -> None:
        """Continue at `offsets`, in those partitions that are still ours, once they are resumed."""
        for partition in self._consumer.assignment() & offsets.keys():
            self._consumer.seek(partition, offsets[partition])
            self.known[partition] = offsets[partition]

    def resume(self, *, held_topics: Collection[str]) -> None:
        """Read the partitions that have a position, except for those of `held_topics`."""
        for partition in self._consumer.assignment() & self.known.keys():
            if partition.topic not in held_topics:
                self._consumer.resume(partition)

    async def passed_over(self, polled: Collection[TopicPartition]) -> list[OffsetStep]:
        """Where the consumer moved without getting a record: no poll will account for that.

        It passes over the markers of transactions and what was compacted away or deleted, and it
        returns to the beginning of a log that has become shorter.
        """
        steps = []
        for part in self.known.keys() - set(polled):
            position = await kafka.position_of(self._consumer, part)
            known = self.known.get(part)  # none after a rebalance
            if position is not None and known is not None and position != known:
                steps.append(OffsetStep(part.topic, part.partition, known, position))
        self.report_returns({TopicPartition(s.topic, s.partition): s.until for s in steps})
        return steps

    def report_returns(self, starts: Offsets) -> None:
        """Log the partitions that are read from an offset before the one that is known."""
        for part in starts.keys() & self.known.keys():
            if starts[part] < self.known[part]:
                log.warning(
                    "%s/%d ended before offset %d, where the ledger was: the topic was truncated, "
                    "or deleted and recreated. The ledger reads it from offset %d",
                    *(*part, self.known[part], starts[part]),
                )
