"""A batch sender that keeps its records."""

from workers.reporting.batch_sender import BatchSender
from workers.reporting.outgoing import OutgoingRecord


class FakeSender(BatchSender):
    """Keeps what is put; the test delivers."""

    def __init__(self) -> None:
        self.records: list[tuple[str, OutgoingRecord]] = []

    @property
    def full(self) -> bool:
        return False

    def put(self, topic: str, record: OutgoingRecord) -> None:
        self.records.append((topic, record))

    def values(self) -> list[bytes]:
        return [record.value or b"" for _, record in self.records]

    def deliver(self, index: int) -> None:
        """Kafka acknowledges one of the records."""
        on_delivered = self.records[index][1].on_delivered
        assert on_delivered is not None
        on_delivered()
