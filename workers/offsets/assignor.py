"""Which worker reads which partitions.

Every topic is spread evenly over the workers, so that each replica gets its share of interactive
and of batch work, and a partition stays with its worker as long as evenness allows: when it moves,
the work on its running jobs is lost. (aiokafka's sticky assignor evens out only the sum over all
topics: one of two workers may end up without interactive partitions.)
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

Owned = Mapping[str, Sequence[int]]
"""Partitions by topic."""


def spread(
    partitions: Mapping[str, Sequence[int]], owned: Mapping[str, Owned]
) -> dict[str, dict[str, list[int]]]:
    """Assign every topic's partitions: partitions by member and topic."""
    result: dict[str, dict[str, list[int]]] = {member: {} for member in owned}
    totals = dict.fromkeys(owned, 0)
    for topic in sorted(partitions):
        for member, share in _spread_topic(topic, partitions[topic], owned, totals).items():
            result[member][topic] = sorted(share)
            totals[member] += len(share)
    return result


def _spread_topic(
    topic: str, partitions: Sequence[int], owned: Mapping[str, Owned], totals: Mapping[str, int]
) -> dict[str, list[int]]:
    """One topic's partitions by member.

    When they do not divide evenly, the extra ones go to the members with the fewest partitions so
    far, then to those that own most of this topic.
    """
    left = set(partitions)
    base, extra = divmod(len(left), len(owned))
    shares: dict[str, list[int]] = {}

    def order(member: str) -> tuple[int, int, str]:
        return (totals[member], -len(owned[member].get(topic, ())), member)

    for rank, member in enumerate(sorted(owned, key=order)):
        quota = base + (rank < extra)
        kept = sorted(left.intersection(owned[member].get(topic, ())))[:quota]
        left.difference_update(kept)
        shares[member] = kept + [-1] * (quota - len(kept))
    free = iter(sorted(left))
    return {m: [next(free) if p == -1 else p for p in share] for m, share in shares.items()}


class EvenStickyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Create one per consumer: it remembers which partitions the consumer has."""

    name = "niyama-even-sticky"
    version = 0

    def __init__(self) -> None:
        self._owned: dict[str, list[int]] = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        user_data = json.dumps(self._owned).encode()
        return ConsumerProtocolMemberMetadata(self.version, list(topics), user_data)

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._owned = {topic: list(partitions) for topic, partitions in assignment.assignment}

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic for member in members.values() for topic in member.subscription}
        partitions = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        owned = {member: json.loads(data.user_data or b"{}") for member, data in members.items()}
        return {
            member: ConsumerProtocolMemberAssignment(self.version, sorted(share.items()), b"")
            for member, share in spread(partitions, owned).items()
        }
