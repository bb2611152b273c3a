"""The partitions that this worker reads: their progress, their commits, and rebalances.

Kafka's classic protocol takes every partition away for the length of a rebalance, and most come
back to where they were. So a rebalance stops no work:

- Taken away (`on_partitions_revoked`): what is finished is committed, with the attempts that
  running jobs have had, so that a new owner can go on from there. Running jobs run on.
- Given back, or new (`on_partitions_assigned`): the partition is paused until its last commit
  was read and joined with what is known here. Then reading goes on where it has to.
- Given to another: its jobs are released. The new owner does them again, with a higher attempt
  number; a job that both happen to finish has two terminal events, of which the first counts.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    OffsetMetadataTooLargeError,
)

from niyama.retry import retry
from workers.offsets.watermark import CommitPoint, PartitionProgress

log = logging.getLogger(__name__)


class Partitions(ConsumerRebalanceListener):  # type: ignore[misc]
    """Progress by partition, in step with the consumer group."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        group: str,
        on_change: Callable[[], None],
    ) -> None:
        """``on_change`` is called when partitions have come or gone."""
        self._consumer = consumer
        self._admin = admin
        self._group = group
        self._on_change = on_change
        self._progress: dict[TopicPartition, PartitionProgress] = {}
        self._revoked: dict[TopicPartition, PartitionProgress] = {}
        self._committed: dict[TopicPartition, CommitPoint] = {}
        self._commit_lock = asyncio.Lock()
        self._with_metadata = True
        self._loading: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.Event()
        """Set while partitions are assigned, even if they are none."""

    def __iter__(self) -> Iterator[tuple[TopicPartition, PartitionProgress]]:
        return iter(self._progress.items())

    def get(self, partition: TopicPartition) -> PartitionProgress | None:
        """None: not assigned, or its last commit is not known yet."""
        return self._progress.get(partition)

    def owns(self, partition: TopicPartition, progress: PartitionProgress, offset: int) -> bool:
        """The unfinished record at ``offset`` is this worker's to finish."""
        return self._progress.get(partition) is progress and progress.is_unfinished(offset)

    async def watch(self) -> None:
        """Raise what keeps partitions from being read."""
        await self._failure

    # ---- commits

    async def commit(self, *, crashed: bool = True) -> None:
        """Commit what has changed. ``crashed`` False: this worker gives its partitions up, alive.

        Returns without having committed when the group has moved on; then a later commit, of
        this worker or of the partitions' next owner, says as much or more.
        """
        async with self._commit_lock:
            points = {
                tp: progress.commit_point(crashed=crashed)
                for tp, progress in self._progress.items()
                if progress.position  # something was read, or committed before
            }
            changed = {tp: p for tp, p in points.items() if p != self._committed.get(tp)}
            if changed:
                await self._send(changed)

    async def _send(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        try:
            await self._consumer.commit(
                {
                    tp: (point.offset, point.metadata if self._with_metadata else "")
                    for tp, point in points.items()
                }
            )
        except OffsetMetadataTooLargeError:
            self._with_metadata = False
            log.warning(
                "the broker's offset.metadata.max.bytes is below its default of 4096: jobs that "
                "finish out of order will be done again after a restart"
            )
            await self._send(points)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("not committed: %s", error)
        else:
            self._committed |= points

    # ---- rebalances

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """A rebalance begins. Called by aiokafka, which waits for it and goes on heartbeating."""
        if self._loading is not None:
            self._loading.cancel()
        try:
            await self.commit(crashed=False)
        except KafkaError as error:
            log.warning("not committed before a rebalance: %s", error)
        self.ready.clear()
        self._revoked |= self._progress
        self._progress = {}
        self._committed = {}

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """A rebalance ends. Nothing was fetched yet: aiokafka calls this before it knows where."""
        self._consumer.pause(*assigned)
        self._loading = asyncio.create_task(self._load(assigned))
        self._loading.add_done_callback(self._loaded)

    def _loaded(self, loading: "asyncio.Task[None]") -> None:
        if not loading.cancelled() and (error := loading.exception()) and not self._failure.done():
            self._failure.set_exception(error)

    async def _load(self, assigned: set[TopicPartition]) -> None:
        committed = await self._read_commits(assigned)
        for tp in assigned:
            progress = self._revoked.pop(tp, None) or PartitionProgress()
            if tp in committed:
                progress.merge(committed[tp])
            if progress.position:
                self._consumer.seek(tp, progress.resume_at)
            self._progress[tp] = progress
        self._revoked.clear()
        self.ready.set()
        log.info("assigned %s", ", ".join(sorted(f"{t}/{p}" for t, p in assigned)) or "nothing")
        self._on_change()

    async def _read_commits(
        self, partitions: set[TopicPartition]
    ) -> dict[TopicPartition, CommitPoint]:
        """Last commits of those that have one; waits for a Kafka that is away."""
        if not partitions:
            return {}
        found = await retry(
            lambda: self._admin.list_consumer_group_offsets(
                self._group, partitions=list(partitions)
            ),
            KafkaError,
            notice="cannot read the group's offsets yet",
            log=log,
        )
        return {
            tp: CommitPoint(commit.offset, commit.metadata or "")
            for tp, commit in found.items()
            if commit.offset >= 0
        }
