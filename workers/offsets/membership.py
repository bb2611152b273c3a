"""Commits between the revocation of partitions and the next assignment.

A rebalance lasts until every member has joined again; after a worker's death, that is until its
session has ended. Kafka accepts commits meanwhile, and what finishes would run again elsewhere
without them. aiokafka has no call for this. `AIOKafkaConsumer.commit` would wait for the join, as
Kafka answers the requests of one connection in order, and would leave the group when Kafka refuses
the commit because everyone has just joined. So this one goes over another connection, in the name
of the generation that ends: once the next one has begun, Kafka refuses it, and no new owner's
commit can be overwritten.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest

TIMEOUT_S = 2.0

Offsets = Mapping[TopicPartition, tuple[int, str]]
"""Offset and metadata by partition."""


@dataclass(frozen=True, slots=True)
class Membership:
    """This worker as a member of one generation of its group."""

    group: str
    generation: int
    member_id: str
    coordinator: int

    @classmethod
    def of(cls, consumer: AIOKafkaConsumer, group: str) -> Self | None:
        """None when the group does not know the consumer, or its coordinator is not known."""
        state = consumer._coordinator
        if state.generation < 0 or not state.member_id or state.coordinator_id is None:
            return None
        return cls(group, state.generation, state.member_id, state.coordinator_id)

    def is_current(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether the consumer has not learned of a later generation."""
        return bool(consumer._coordinator.generation == self.generation)

    async def commit(self, admin: AIOKafkaAdminClient, offsets: Offsets) -> bool:
        """False: Kafka does not take it, as the next generation has begun, or does not answer."""
        by_topic = defaultdict(list)
        for tp, (offset, metadata) in offsets.items():
            by_topic[tp.topic].append((tp.partition, offset, metadata))
        request = OffsetCommitRequest(
            self.group,
            self.generation,
            self.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            list(by_topic.items()),
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await admin._client.send(self.coordinator, request)
        except (KafkaError, TimeoutError):
            return False
        return not any(code for _, answers in response.topics for _, code in answers)
