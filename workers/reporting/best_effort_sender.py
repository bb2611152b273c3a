"""A topic whose records may be lost, so that nothing else ever waits for them."""

import logging
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    UnknownTopicOrPartitionError,
)

from niyama.logs import Throttle
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.partition_queue import PartitionQueue
from workers.reporting.topic_sender import TopicSender

log = logging.getLogger(__name__)

_TOPIC_UNAVAILABLE = (
    KafkaStorageError,
    LeaderNotAvailableError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    UnknownTopicOrPartitionError,
)
"""What Kafka says of a topic or a partition, not of itself."""


class BestEffortSender(TopicSender):
    """Gives up what the topic does not take in time, and the oldest of what exceeds its budget.

    While Kafka as a whole is unavailable, records wait as far as the budget allows.
    """

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, *, budget_bytes: int, consequence: str
    ) -> None:
        """The budget is shared evenly by the topic's partitions. `consequence` is a sentence for
        the log: what a lost record means."""
        super().__init__(producer, topic)
        self._budget_bytes = budget_bytes
        self._consequence = consequence
        self._throttle = Throttle()

    def _make_room(self, queue: PartitionQueue) -> None:
        share_bytes = self._budget_bytes // len(self._queues)
        while queue.waiting_bytes > share_bytes and len(queue.waiting) > 1:
            self._lose([queue.take()], "too many wait")

    def _is_temporary(self, error: KafkaError) -> bool:
        return bool(error.retriable) and not isinstance(error, _TOPIC_UNAVAILABLE)

    def _undeliverable(self, records: Sequence[OutgoingRecord], error: KafkaError) -> None:
        self._lose(records, repr(error))

    def _lose(self, records: Sequence[OutgoingRecord], reason: str) -> None:
        self.given_up += len(records)
        self._throttle.warning(
            log,
            "%d records for %s could not be delivered so far (%s): %s",
            self.given_up,
            self.topic,
            reason,
            self._consequence,
        )
        self._finish(records)
