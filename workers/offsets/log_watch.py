"""Notices when a partition's log is not what it was: records deleted, cut off, or another topic.

A consumer whose position is no longer in the log is silently moved to the log's beginning,
and whatever is below the offset that was read before would pass for finished. Jobs that run while
their records go are finished here: nobody else can run them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from workers.offsets.partitions import Partitions
from workers.offsets.topic_ids import topic_ids
from workers.offsets.watermark import PartitionProgress

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 2.0


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
        self._confirmed: dict[TopicPartition, int] = {}
        """Up to where each partition had been read when its topic's id was last seen."""

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
        read = {tp: progress.position for tp, progress in self._partitions}
        ids = await topic_ids(self._admin, {tp.topic for tp in read})
        for topic, group in groupby(sorted(read), key=lambda tp: tp.topic):
            try:
                await self._check_topic(topic, {tp: read[tp] for tp in group}, ids)
            except KafkaError as error:  # it has no leader, or does not exist
                log.info("cannot look at the logs of %s: %r", topic, error)

    async def _check_topic(
        self, topic: str, read: dict[TopicPartition, int], ids: Mapping[str, UUID]
    ) -> None:
        """`read`: up to where each partition was read, before the ids were."""
        if self._is_another(topic, ids.get(topic)):
            if any(self._partitions.get(tp) is None for tp in read):
                return  # there has been a rebalance: what comes back is found by the next check
            self._created_again(read)
        elif topic in ids or not ids:
            await self._compare({tp: position for tp, position in read.items() if position})
        self._confirmed |= read

    def _is_another(self, topic: str, topic_id: UUID | None) -> bool:
        if topic_id is None:
            return False
        return self._topic_ids.setdefault(topic, topic_id) != topic_id

    def _created_again(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._topic_ids.pop(tp.topic, None)
            log.warning("%s/%d was deleted and created again: reading all of it", *tp)
            self._partitions.restart(tp, confirmed=self._confirmed.get(tp, 0))
        self._on_restarted()

    async def _compare(self, read: dict[TopicPartition, int]) -> None:
        """`read`: up to where each was read, before the logs are looked at."""
        if not read:
            return
        starts = await self._consumer.beginning_offsets(list(read))
        ends = await self._consumer.end_offsets(list(read))
        for tp, position in read.items():
            progress = self._partitions.get(tp)
            if progress is None:
                continue
            if ends[tp] < position:
                self._ends_before(tp, progress, ends[tp])
            else:
                _report_deleted(tp, progress, starts[tp])

    def _ends_before(self, tp: TopicPartition, progress: PartitionProgress, end: int) -> None:
        if tp in self._confirmed:  # the same topic: a replica that lagged behind became the leader
            log.warning(
                "%s/%d was truncated at %d: its records from there to %d are gone",
                *tp,
                end,
                progress.position,
            )
            self._partitions.truncate(tp, end)
        else:
            log.warning(
                "%s/%d ends at %d, before its last commit, %d: reading all of it",
                *tp,
                end,
                progress.position,
            )
            self._partitions.restart(tp, confirmed=0)
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
