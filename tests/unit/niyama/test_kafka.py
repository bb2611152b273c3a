"""What Kafka's answers mean."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from niyama.kafka import committed_offsets

ONE, OTHER = TopicPartition("jobs", 0), TopicPartition("jobs", 1)


class FakeAdmin:
    def __init__(self, answer: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self._answer = answer

    async def list_consumer_group_offsets(
        self, group: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return self._answer


async def test_partitions_without_a_commit_have_an_offset_too() -> None:
    answer = {ONE: OffsetAndMetadata(7, ""), OTHER: OffsetAndMetadata(-1, "")}
    assert await committed_offsets(FakeAdmin(answer), "group", [ONE, OTHER]) == answer


async def test_an_answer_that_lacks_partitions_is_an_error_and_not_an_empty_group() -> None:
    """As of a coordinator that still loads the group: aiokafka returns an empty answer."""
    with pytest.raises(KafkaError, match="does not return the offsets of group"):
        await committed_offsets(FakeAdmin({}), "group", {ONE})
