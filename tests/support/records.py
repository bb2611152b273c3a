"""Job records in memory."""

import json
from dataclasses import dataclass
from typing import Any

from schemas import PoolTopics
from schemas.headers import ReceivedHeaders
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import PartitionProgress

TOPICS = PoolTopics.of("default")
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

JOB_DOCUMENT = {"model": "m", "prompt": "Hello", "qos": "batch-1h"}
"""A batch job as a client of the HTTP API sends it."""


@dataclass
class FakeRecord:
    """Implements `niyama.kafka.ConsumedRecord`."""

    value: bytes | None = b""
    topic: str = TOPICS.interactive.name
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_000_000
    key: bytes | None = b"key"
    headers: ReceivedHeaders = ()


def job_bytes(**fields: Any) -> bytes:
    """A chat for model `m`; `fields` are a job's, and replace or add to its own."""
    return json.dumps({"model": "m", "qos": "chat", "prompt": "hi"} | fields).encode()


def tracked(record: FakeRecord) -> TrackedRecord:
    """The record as the first one that is read of its partition."""
    progress = PartitionProgress()
    pending = progress.take(record.offset)
    assert pending is not None
    return TrackedRecord(record, pending, progress)
