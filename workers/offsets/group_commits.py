"""One worker's commits on their way to its consumer group and back. Each proves its membership."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    OffsetMetadataTooLargeError,
)

from niyama.kafka import committed_offsets
from niyama.retry import retry
from workers.offsets.lease import Lease
from workers.offsets.membership import Membership, Offsets
from workers.offsets.watermark import CommitPoint

log = logging.getLogger(__name__)

COMMIT_LIMIT_S = 5.0
"""aiokafka tries for as long as Kafka, or one of the topics, is unavailable."""

CommitPoints = Mapping[TopicPartition, CommitPoint]


class GroupCommits:
    """Writes and reads commits, and remembers what was written last."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        group: str,
        *,
        lease: Lease,
        clock: Callable[[], float],
    ) -> None:
        """`lease` is renewed by every commit that the group takes. `clock` is that of the lease."""
        self._consumer = consumer
        self._admin = admin
        self._group = group
        self._lease = lease
        self._clock = clock
        self._last: dict[TopicPartition, CommitPoint] = {}
        self._with_metadata = True

    def membership(self) -> Membership | None:
        """This worker in the generation that it knows; None: in none."""
        return Membership.of(self._consumer, self._group)

    def due(self, points: CommitPoints) -> CommitPoints:
        """Those to be written now: what has changed or, to renew the lease, all."""
        if self._lease.is_due:
            return points
        return {tp: point for tp, point in points.items() if point != self._last.get(tp)}

    def forget(self, partition: TopicPartition) -> None:
        """The last commit of `partition` is about another log."""
        self._last.pop(partition, None)

    def forget_all(self) -> None:
        """The last commits may be those of other members."""
        self._last.clear()

    async def write(self, points: CommitPoints) -> bool:
        """False: the group does not take them, or does not answer in time."""
        sent_s = self._clock()
        try:
            async with asyncio.timeout(COMMIT_LIMIT_S):
                await self._consumer.commit(self._offsets(points))
        except OffsetMetadataTooLargeError:
            self._with_metadata = False
            log.warning(
                "the broker's offset.metadata.max.bytes is below its default of 4096: jobs that "
                "finish out of order will run again after a restart"
            )
            return await self.write(points)
        except (CommitFailedError, IllegalStateError, TimeoutError) as error:
            log.info("not committed: %r", error)
            return False
        self._written(points, sent_s)
        return True

    async def write_as(self, membership: Membership, points: CommitPoints) -> None:
        """Write in the name of a generation that ends, if the group still allows that."""
        sent_s = self._clock()
        if await membership.commit(self._admin, self._offsets(points)):
            self._written(points, sent_s)

    def _written(self, points: CommitPoints, sent_s: float) -> None:
        self._last |= points
        self._lease.renew(sent_s)

    async def read(self, partitions: set[TopicPartition]) -> dict[TopicPartition, CommitPoint]:
        """Last commits of those that have one; waits while Kafka is unavailable."""
        if not partitions:
            return {}
        found = await retry(
            lambda: committed_offsets(self._admin, self._group, partitions),
            KafkaError,
            notice="cannot read the group's offsets yet",
            log=log,
        )
        return {
            tp: CommitPoint(commit.offset, commit.metadata or "")
            for tp, commit in found.items()
            if commit.offset >= 0
        }

    def _offsets(self, points: CommitPoints) -> Offsets:
        return {
            tp: (point.offset, point.metadata if self._with_metadata else "")
            for tp, point in points.items()
        }
