"""From Kafka records to what the ledger takes from them."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from pydantic import ValidationError

from gateway.ledger.projection import Request
from niyama.kafka import ConsumedRecord
from schemas import (
    JobControl,
    JobEvent,
    JobRequest,
    PoolTopics,
    Qos,
    QosCatalog,
    Refusal,
    decode_job,
)
from schemas.decode import job_id_of_record
from schemas.headers import trace_context
from schemas.qos import UnknownQosClassError

log = logging.getLogger(__name__)

# A NUL character is fine in JSON and refused by Postgres. An even number of backslashes before
# the escape are backslashes of their own; an odd one would escape its backslash.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT = rb"\1\\ufffd"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job was published. ``request`` says little when the record is no valid job."""

    job_id: UUID
    request: Request


@dataclass(frozen=True, slots=True)
class Report:
    """A worker said what happened to a job."""

    event: JobEvent
    value: bytes
    """The event's record, byte for byte."""
    trace: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Someone asked for a job to be cancelled."""

    job_id: UUID
    requested_at: datetime


Entry = Submission | Report | Cancellation


class RecordDecoder:
    """Knows which topic carries what, and the QoS classes that jobs name."""

    def __init__(self, topics: PoolTopics, catalog: QosCatalog, pool: str) -> None:
        self._events = topics.events.name
        self._control = topics.control.name
        self._catalog = catalog
        self._pool = pool

    def decode(self, record: ConsumedRecord) -> Entry | None:
        """What the ledger takes from ``record``, or None for one that it cannot use."""
        try:
            if record.topic == self._events:
                return _report(record)
            if record.topic == self._control:
                return _cancellation(record)
            return self._submission(record)
        except (ValidationError, ValueError, OverflowError) as error:
            log.warning(
                "skipped record %s/%d/%d, which is not understood: %s",
                *(record.topic, record.partition, record.offset, _first_line(error)),
            )
            return None

    def decode_all(self, records: Sequence[ConsumedRecord]) -> list[Entry]:
        """What the ledger takes from ``records``, in their order."""
        return [entry for entry in map(self.decode, records) if entry is not None]

    def _submission(self, record: ConsumedRecord) -> Submission | None:
        arrived_at = _EPOCH + timedelta(milliseconds=record.timestamp)
        place = Place(record.topic, record.partition, record.offset)
        sha256 = digest(record.value or b"")
        job = decode_job(storable(record.value))
        if isinstance(job, Refusal):
            # The worker refuses the record too, and says why in the event that fails the job.
            invalid = Request(arrived_at, self._pool, *place, sha256)
            return Submission(job.job_id, invalid) if job.job_id else None
        job_id = job.job_id or job_id_of_record(*place)
        try:
            qos = self._catalog.resolve(job.qos)
        except UnknownQosClassError:
            return Submission(job_id, Request(arrived_at, self._pool, *place, sha256))
        return Submission(job_id, request_of(job, qos, arrived_at, self._pool, place, sha256))


class Place(NamedTuple):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


def request_of(
    job: JobRequest, qos: Qos, arrived_at: datetime, pool: str, place: Place, sha256: bytes
) -> Request:
    """What the ledger keeps of a job."""
    return Request(
        arrived_at=arrived_at,
        pool=pool,
        source_topic=place.topic,
        source_partition=place.partition,
        source_offset=place.offset,
        request_sha256=sha256,
        model=job.model,
        tenant=job.tenant,
        application=job.application,
        importance=job.importance,
        qos_class=qos.name,
        kind=qos.kind,
        ttft_s=qos.ttft_s,
        tbt_s=qos.tbt_s,
        ttlt_s=qos.ttlt_s,
        deadline_at=qos.deadlines(arrived_at).at,
        expire_after_s=job.expire_after_s,
        max_tokens=job.max_tokens,
        stream=job.stream,
        reply_topic=job.reply_topic,
        metadata=job.metadata,
    )


def digest(value: bytes) -> bytes:
    """Tells whether two requests are the same."""
    return hashlib.sha256(value).digest()


def storable(value: bytes | None) -> bytes | None:
    r"""``value`` with the JSON escape ``\u0000`` replaced by that of U+FFFD."""
    if value is None or b"\\u0000" not in value:
        return value
    return _NUL.sub(_REPLACEMENT, value)


def _report(record: ConsumedRecord) -> Report:
    event = JobEvent.model_validate_json(storable(record.value) or b"")
    trace = trace_context(record.headers) if event.type.is_terminal else []
    return Report(event, record.value or b"", trace)


def _cancellation(record: ConsumedRecord) -> Cancellation | None:
    if record.value is None:  # a tombstone in a compacted topic
        return None
    control = JobControl.model_validate_json(storable(record.value) or b"")
    return Cancellation(control.job_id, control.requested_at)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:3])
