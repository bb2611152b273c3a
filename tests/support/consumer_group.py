"""One consumer group and one partition of jobs, in memory."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import OffsetAndMetadata

from tests.support.records import FakeRecord
from workers.offsets.partitions import Partitions

PARTITION = TopicPartition(FakeRecord.topic, FakeRecord.partition)
SESSION_TIMEOUT_S = 10.0
COMMIT_S = 0.002


ILLEGAL_GENERATION = 22


class FakeGroup:
    """What Kafka keeps while workers come and go: the records, and the last commit."""

    def __init__(self, records: Sequence[FakeRecord] = ()) -> None:
        self.records = list(records)
        self.committed = OffsetAndMetadata(-1, "")
        self.commits = 0
        self.generation = 1


@dataclass(frozen=True, slots=True)
class Coordinator:
    """What aiokafka knows of its membership."""

    generation: int
    member_id: str = "member"
    coordinator_id: int = 0


@dataclass(frozen=True, slots=True)
class CommitResponse:
    """Errors by topic and partition."""

    topics: list[tuple[str, list[tuple[int, int]]]]


class FakeConsumer:
    """A member of the group, and its admin client, as far as workers use them."""

    def __init__(self, group: FakeGroup) -> None:
        self.group = group
        self.position = 0
        self.polls = 0
        self.fetched: dict[TopicPartition, list[FakeRecord]] = {}
        """What the next poll returns instead of the group's records, if anything."""
        self.paused: set[TopicPartition] = set()
        self.is_member = True
        """False: the group has moved on, and takes no more commits."""
        self._coordinator = Coordinator(group.generation)
        self._client = self

    # ---- consumer

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        await asyncio.sleep(COMMIT_S)
        if not self.is_member:
            raise CommitFailedError
        if PARTITION in offsets:
            self.group.committed = OffsetAndMetadata(*offsets[PARTITION])
        self.group.commits += 1

    async def getmany(
        self, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[FakeRecord]]:
        self.polls += 1
        if self.fetched:
            fetched, self.fetched = self.fetched, {}
            return fetched
        records = self.group.records[self.position : self.position + max_records]
        if self.paused or not records:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        self.position += len(records)
        return {PARTITION: records}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {PARTITION.partition}

    def highwater(self, partition: TopicPartition) -> int:
        return len(self.group.records)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.position = offset

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        self.paused.discard(partition)

    # ---- admin client

    async def send(self, node: int, request: OffsetCommitRequest) -> CommitResponse:
        """Handle a commit in the name of a generation."""
        if request._consumer_group_generation_id != self.group.generation:
            return CommitResponse([(PARTITION.topic, [(PARTITION.partition, ILLEGAL_GENERATION)])])
        ((_, ((_, offset, metadata),)),) = request._topics
        await self.commit({PARTITION: (offset, metadata)})
        return CommitResponse([(PARTITION.topic, [(PARTITION.partition, 0)])])

    async def list_consumer_group_offsets(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return dict.fromkeys(partitions, self.group.committed)


def partitions_of(consumer: FakeConsumer, clock: Callable[[], float] = lambda: 0.0) -> Partitions:
    """The partitions of a worker that has joined; none are assigned yet."""
    return Partitions(consumer, consumer, "group", session_timeout_s=SESSION_TIMEOUT_S, clock=clock)
