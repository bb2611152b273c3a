"""A topic that gets every record: events, on which the end of each job depends."""

from collections.abc import Sequence

from aiokafka.errors import InvalidTimestampError, KafkaError

from niyama.errors import UnavailableError
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.partition_queue import PartitionQueue
from workers.reporting.topic_sender import TopicSender

FULL_BYTES = 64 * 1024 * 1024


class ExactSender(TopicSender):
    """Sends again for as long as Kafka, or the topic, is unavailable.

    What accumulates meanwhile is bounded by its callers, who take no more work while it is `full`.
    """

    @property
    def full(self) -> bool:
        return self._unsent_bytes > FULL_BYTES

    def _make_room(self, queue: PartitionQueue) -> None:
        """Nothing is left out: see `full`."""

    def _is_temporary(self, error: KafkaError) -> bool:
        # A topic made by other hands may go by our clock, and refuse what is an hour ahead.
        return bool(error.retriable) or isinstance(error, InvalidTimestampError)

    def _undeliverable(self, records: Sequence[OutgoingRecord], error: KafkaError) -> None:
        raise UnavailableError(f"Kafka rejects records for {self.topic}: {error!r}")
