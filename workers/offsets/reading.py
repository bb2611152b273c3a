"""What belongs to reading a partition from one offset on."""

from dataclasses import dataclass

from aiokafka import TopicPartition

from workers.offsets.watermark import PartitionProgress


@dataclass(slots=True, eq=False)
class Reading:
    """It ends when reading goes on elsewhere in the partition, or the partition is revoked.

    What was fetched in one that has ended does not count: it is read again, or gone.
    """

    partition: TopicPartition
    progress: PartitionProgress
    first_new: int | None = None
    """The first offset that no dead worker can have taken; None: not known yet."""
