"""Keeps the ledger up to date with the log: one consumer among the gateways' group."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from gateway.database import UNREACHABLE, connect
from gateway.ledger.catch_up import TOGETHER_RECORDS, CatchUp, poll_together
from gateway.ledger.isolation import why_unusable, write_isolated
from gateway.ledger.lag import LedgerLag
from gateway.ledger.poll_size import PollSize
from gateway.ledger.positions import Offsets, Positions, each_offset, load_offsets, read_offsets
from gateway.ledger.records import Decoded, RecordDecoder, Unusable
from gateway.ledger.writer import OffsetStep, StaleOffsetsError, Written, write
from gateway.settings import GatewaySettings
from niyama import kafka
from niyama.logs import Throttle
from niyama.retry import RETRY_INTERVAL_S, retry

log = logging.getLogger(__name__)

POLL_RECORDS = 1000
POLL_TIMEOUT_MS = 500
PARTITION_FETCH_BYTES = 1024 * 1024
"""A larger record comes alone."""
FETCH_BYTES = 16 * 1024 * 1024
FETCH_WAIT_MS = 100
"""How long a fetch waits at the broker, for the partitions that had nothing when it started."""
LOOK_INTERVAL_S = 1.0
"""How often, while records come, it looks for partitions that moved on without any. To ask for
every position after every poll took as long as decoding what a small poll had."""
COMMIT_INTERVAL_S = 5.0
COMMIT_TIMEOUT_S = 1.0
"""aiokafka would wait for the group's coordinator however long it is away."""
SESSION_TIMEOUT_MS = 10_000
"""After this long without a sign of life, a gateway's partitions go to the others."""
STALL_S = 2.0
"""A poll that took longer leaves a backlog behind, as an outage does. That is no reason to catch up
again before anything but jobs has been read: with a slow Postgres, nothing else ever would be."""


def ledger_group(settings: GatewaySettings) -> str:
    """The consumer group of the gateways."""
    return f"{settings.topic_prefix}-ledger"


class SameNumbers(RangePartitionAssignor):  # type: ignore[misc]
    """The partitions of one number, of all topics, go to one gateway: what there is about a job id
    falls behind together when that gateway does."""

    name = "roundrobin"
    """That of older gateways, which may be in the group too. Whoever leads it assigns. (aiokafka
    joins once for each assignor, so a consumer with two of them keeps its group from settling.)"""


class LedgerConsumer:
    """Writes polls of job, event and control records, each in one transaction.

    The offsets to resume at are written to Postgres in the same transaction, so that every record
    is written once. After any failure (Postgres gone, another gateway faster, a rebalance) the
    consumer drops what it holds and resumes at the offsets that Postgres has.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        on_written: Callable[[Written], None] = lambda _: None,
        on_unusable: Callable[[Unusable], None] = lambda _: None,
        on_stored: Callable[[Mapping[str, int], float], None] = lambda *_: None,
    ) -> None:
        """`on_stored` is told how many records of each topic were decoded and written, and how
        many seconds that took."""
        topics = settings.topics
        self._settings = settings
        self._on_written = on_written
        self._on_unusable = on_unusable
        self._on_stored = on_stored
        self._job_topics = [spec.name for spec in topics.jobs]
        self._later_topics = [topics.events.name, topics.control.name]
        self._decoder = RecordDecoder(topics, settings.qos_catalog, settings.pool)
        self._positions: Positions | None = None
        self._lag = LedgerLag()
        self._catch_up: CatchUp | None = None
        self._later_read = False
        """Whether something of `_later_topics` has been read since the last catching up."""
        self._poll_size = PollSize(TOGETHER_RECORDS, time.monotonic)
        self._database: asyncpg.Connection | None = None
        self._throttle = Throttle()
        self._next_commit_s = 0.0
        self._next_look_s = 0.0
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether it is reading all that is assigned to it, each topic in its turn."""
        positions = self._positions
        return positions is not None and positions.assigned and not positions.unknown()

    def lags(self) -> Mapping[str, int]:
        """How many records of each topic are in its partitions and not in the ledger yet.

        As of before while it cannot ask Kafka.
        """
        return self._lag.by_topic()

    async def missing(self) -> str | None:
        """What keeps it from following the log now, or None."""
        return None if self.ready else "waits for its partitions, or for Postgres"

    def stop(self) -> None:
        """End `run` after the current poll."""
        self._stopping = True

    async def run(self) -> None:
        """Consume until `stop`. Kafka and Postgres may come and go."""
        notice = "the ledger reads nothing, because Kafka says"
        await retry(self._session, KafkaError, notice=notice, log=log)
        self._disconnect()

    async def _session(self) -> None:
        """The life of one Kafka consumer, until `stop` or an error that it cannot survive."""
        if self._stopping:
            return
        consumer = kafka.consumer(
            self._settings,
            group_id=ledger_group(self._settings),
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            partition_assignment_strategy=(SameNumbers,),
        )
        self._positions = positions = Positions(consumer)
        try:
            await consumer.start()
            consumer.subscribe([*self._job_topics, *self._later_topics], listener=positions)
            async with self._lag.watching(consumer, positions):
                while not self._stopping:
                    await self._step(consumer, positions)
            await self._commit(consumer, positions)
        finally:
            self._positions = None
            await consumer.stop()

    async def _step(self, consumer: AIOKafkaConsumer, positions: Positions) -> None:
        try:
            if positions.unknown():
                await self._load_positions(consumer, positions)
            elif self._catch_up is not None:
                await self._resume(positions)
            started_s = time.monotonic()
            await self._poll(consumer, positions)
            if self._later_read and time.monotonic() - started_s > STALL_S:
                positions.forget()  # to read jobs first, whatever was fetched first meanwhile
        except StaleOffsetsError:
            log.info("another gateway wrote the same partitions; continuing where it left off")
            positions.forget()
        except UNREACHABLE as error:
            self._throttle.warning(log, "the ledger waits for Postgres: %r", error)
            positions.forget()
            self._disconnect()
            await consumer.getmany()  # of nothing, to stay a member of the group
            await asyncio.sleep(RETRY_INTERVAL_S)
        if time.monotonic() >= self._next_commit_s:
            await self._commit(consumer, positions)

    async def _poll(self, consumer: AIOKafkaConsumer, positions: Positions) -> None:
        backlog = self._catch_up.left(positions.known) if self._catch_up else {}
        if backlog:
            room = self._poll_size.at_most(TOGETHER_RECORDS)
            polled = await poll_together(consumer, backlog, room)
        else:
            room = self._poll_size.at_most(POLL_RECORDS)
            polled = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=room)
        ours = {part: polled[part] for part in polled if part in positions.known}
        if ours:
            positions.report_returns({part: ours[part][0].offset for part in ours})
            self._later_read |= any(part.topic in self._later_topics for part in ours)
            started_s = time.monotonic()
            await self._write(list(chain.from_iterable(ours.values())), positions.known)
            counts: Counter[str] = Counter()
            for part, records in ours.items():
                counts[part.topic] += len(records)
            self._on_stored(counts, time.monotonic() - started_s)
        if not ours or time.monotonic() >= self._next_look_s:
            await self._pass_over(positions, ours)

    async def _load_positions(self, consumer: AIOKafkaConsumer, positions: Positions) -> None:
        """Find out where to continue, and which records to read before any others."""
        loaded = await load_offsets(await self._connection(), positions.unknown())
        positions.seek(loaded)
        beginnings = await each_offset(consumer.beginning_offsets, loaded)
        positions.note_beginnings(beginnings)
        for part in beginnings:
            if 0 < loaded[part] < beginnings[part]:
                gone = (loaded[part], beginnings[part] - 1)
                log.warning("%s/%d: records %d to %d were deleted unread", *part, *gone)
        job_partitions = [
            TopicPartition(topic, number)
            for topic in self._job_topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        ends = await each_offset(consumer.end_offsets, job_partitions)
        self._catch_up, self._later_read = CatchUp(ends, time.monotonic), False
        await self._resume(positions)

    async def _resume(self, positions: Positions) -> None:
        """Read job topics; and the others, once the backlog of jobs is in Postgres."""
        if self._catch_up is not None:
            read = await read_offsets(await self._connection(), self._catch_up.partitions)
            if self._catch_up.is_done(read):
                self._catch_up = None
        positions.resume(held_topics=self._later_topics if self._catch_up else ())

    async def _pass_over(self, positions: Positions, polled: Collection[TopicPartition]) -> None:
        self._next_look_s = time.monotonic() + LOOK_INTERVAL_S
        steps = await positions.passed_over(polled)
        if steps:
            await write(await self._connection(), [], steps)
        for step in steps:
            positions.known[TopicPartition(step.topic, step.partition)] = step.until

    async def _write(self, records: list[ConsumerRecord], known: Offsets) -> None:
        """Write `records`, and move `known` past them."""

        async def write_some(some: Sequence[ConsumerRecord]) -> None:
            decoded = await self._decoder.decode_all(some)
            with self._poll_size.learning(len(some)):
                await self._write_together(decoded, some, known)

        async def pass_over(record: ConsumerRecord, error: Exception) -> None:
            unusable = Unusable(record, why_unusable(error))
            await self._write_together(Decoded([], [unusable]), [record], known)

        await write_isolated(records, write_some, pass_over)

    async def _write_together(
        self, decoded: Decoded, records: Sequence[ConsumerRecord], known: Offsets
    ) -> None:
        until = {TopicPartition(each.topic, each.partition): each.offset + 1 for each in records}
        steps = [
            OffsetStep(part.topic, part.partition, known[part], end) for part, end in until.items()
        ]
        written = await write(await self._connection(), decoded.entries, steps)
        known.update(until)
        self._on_written(written)
        for unusable in decoded.unusable:  # now that they are not read again
            self._on_unusable(unusable)

    async def _connection(self) -> asyncpg.Connection:
        if self._database is None:
            # A commit that a crash of Postgres loses takes its offsets along, and the log is
            # read again from there: waiting for the disk on every poll would buy nothing.
            self._database = await connect(self._settings, "ledger", synchronous_commit="off")
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.terminate()
            self._database = None

    async def _commit(self, consumer: AIOKafkaConsumer, positions: Positions) -> None:
        """Commit to Kafka too, for tools that show how far a group lags behind."""
        self._next_commit_s = time.monotonic() + COMMIT_INTERVAL_S
        if positions.known:
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    await consumer.commit(dict(positions.known))
            except (KafkaError, TimeoutError) as error:
                log.debug("offsets not committed to Kafka: %r", error)
