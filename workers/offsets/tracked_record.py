"""A job record on its way through the worker."""

from dataclasses import dataclass

from aiokafka import TopicPartition

from niyama.kafka import ConsumedRecord
from workers.offsets.attempts import PendingRecord
from workers.offsets.watermark import PartitionProgress


@dataclass(frozen=True, slots=True, eq=False)
class TrackedRecord:
    """A record that was read, with the offset tracking that it has to be finished in."""

    record: ConsumedRecord
    pending: PendingRecord
    progress: PartitionProgress
    reading_since_s: float = 0.0
    """UTC epoch seconds: since when its partition had been read without a pause."""

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.record.topic, self.record.partition)

    @property
    def is_unfinished(self) -> bool:
        return self.progress.is_unfinished(self.record.offset, self.pending)

    def is_superseded(self) -> bool:
        """Another worker has taken over: what is still to be said about the record, it says."""
        return self.pending.is_superseded

    def put_back(self) -> None:
        """Nothing has been done with the record: it is to be read again."""
        self.progress.put_back(self.record.offset, self.pending)

    def finish(self) -> None:
        """The record needs no more work: it may be committed. Safe to call again."""
        self.progress.finish(self.record.offset, self.pending)
