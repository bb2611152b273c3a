"""Notices when a partition's log is not what it was: records deleted, cut off, or another topic.

A consumer whose position is no longer in the log is silently moved to the log's beginning,
and whatever is below the offset that was read before would pass for finished. Jobs that run while
their records go are finished here: nobody else can run them.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from workers.offsets.partitions import Partitions
from workers.offsets.topic_ids import topic_ids
from workers.offsets.watermark import PartitionProgress

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 2.0
LOOK_LIMIT_S = 5.0
"""aiokafka would wait 40 s for the leader of one partition."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Up to where a partition had been read before its log was looked at."""

    partition: TopicPartition
    progress: PartitionProgress
    position: int


class LogWatch:
    """Compares what was read with what the logs have, every `CHECK_INTERVAL_S`."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        partitions: Partitions,
        *,
        on_restarted: Callable[[], None],
    ) -> None:
        """`on_restarted` is called after a partition's progress was reset."""
        self._consumer = consumer
        self._admin = admin
        self._partitions = partitions
        self._on_restarted = on_restarted
        self._topic_ids: dict[str, UUID] = {}
        """Also those of topics of which nothing is assigned now: what comes back is of this one."""
        self._in_doubt: set[TopicPartition] = set()
        """Whose offsets Kafka did not give when they were last asked for, by themselves or with
        others: each is asked for by itself, or one without a leader would hide the others."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                await self.check()
            except KafkaError as error:
                log.info("cannot look at the ids of the job topics: %r", error)

    async def check(self) -> None:
        """Look once. Raises KafkaError when the ids of the topics cannot be read."""
        read = [_Read(tp, progress, progress.position) for tp, progress in self._partitions]
        self._in_doubt.intersection_update(each.partition for each in read)
        if self._partitions.is_idle:
            self._topic_ids.clear()  # what comes is as others have left it
        if not read:  # or there is a rebalance: what comes back is found by the next check
            return
        topics = {each.partition.topic for each in read} | self._topic_ids.keys()
        ids = await topic_ids(self._admin, topics)
        await asyncio.gather(
            *(
                self._look_at(topic, ids, [each for each in read if each.partition.topic == topic])
                for topic in topics
            )
        )

    async def _look_at(self, topic: str, ids: Mapping[str, UUID], read: Sequence[_Read]) -> None:
        """`read`: what this worker had of the topic before the ids were read."""
        if topic in ids and self._topic_ids.setdefault(topic, ids[topic]) != ids[topic]:
            if all(map(self._is_here, read)):  # otherwise the next check finds it
                self._topic_ids[topic] = ids[topic]
                self._created_again(topic)
        elif topic in ids or not ids:
            alone = [[each] for each in read if each.partition in self._in_doubt]
            together = [each for each in read if each.partition not in self._in_doubt]
            groups = [*alone, together] if together else alone
            await asyncio.gather(*(self._look_at_logs(group) for group in groups))
        else:
            self._confirm(read)

    async def _look_at_logs(self, read: Sequence[_Read]) -> None:
        asked = {each.partition for each in read}
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                await self._compare(read)
        except (KafkaError, TimeoutError) as error:  # one has no leader, or does not exist
            log.info("cannot check the offsets of %s: %r", _names(asked), error)
            for each in read:
                if each.partition in self._in_doubt:
                    each.progress.log = None  # what is known of it gets old
            self._in_doubt |= asked
        else:
            self._in_doubt -= asked
            self._confirm(read)

    def _confirm(self, read: Sequence[_Read]) -> None:
        for each in read:
            each.progress.confirmed = min(each.position, each.progress.position)

    def _is_here(self, read: _Read) -> bool:
        return self._partitions.get(read.partition) is read.progress

    def _created_again(self, topic: str) -> None:
        """Whatever is known here may be about the old topic, even a commit that was just read."""
        for tp, _ in list(self._partitions):
            if tp.topic == topic:
                log.warning("%s/%d was deleted and recreated: reading all of it", *tp)
                self._restart(tp)

    async def _compare(self, read: Sequence[_Read]) -> None:
        partitions = [each.partition for each in read]
        starts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for each in filter(self._is_here, read):
            each.progress.log = range(starts[each.partition], ends[each.partition])
            if not each.position:
                continue
            if ends[each.partition] < each.position:
                self._ends_before(each, ends[each.partition])
            else:
                _report_deleted(each.partition, each.progress, starts[each.partition])

    def _ends_before(self, read: _Read, end: int) -> None:
        tp, position = read.partition, read.progress.position
        if read.progress.confirmed is not None:
            # The same topic: a replica that lagged behind became the leader.
            log.warning(
                "%s/%d was truncated at %d: its records from there to %d are gone",
                *tp,
                end,
                position,
            )
            self._partitions.truncate(tp, end)
        else:
            log.warning(
                "%s/%d ends at %d, before its last commit, %d: reading all of it",
                *tp,
                end,
                position,
            )
            self._restart(tp)

    def _restart(self, tp: TopicPartition) -> None:
        self._partitions.restart(tp)
        self._on_restarted()


def _report_deleted(tp: TopicPartition, progress: PartitionProgress, start: int) -> None:
    deleted = progress.deleted_below(start)
    if deleted:
        log.warning(
            "%s/%d: offsets %d to %d were deleted before anyone had finished them",
            *tp,
            deleted.start,
            deleted.stop - 1,
        )


def _names(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions))
