"""A job as the worker holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from schemas import JobRequest, Qos
from schemas.event import Source


class Record(Protocol):
    """A Kafka record, as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def source_of(record: Record) -> Source:
    """Where a record is, for events."""
    return Source(topic=record.topic, partition=record.partition, offset=record.offset)


@dataclass(frozen=True, slots=True)
class Job:
    """A record that was decoded and found to be for this worker's model."""

    job_id: UUID
    request: JobRequest
    qos: Qos
    arrived_s: float
    """UTC epoch seconds; the job's deadlines count from here."""
