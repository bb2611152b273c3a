"""From Kafka records to what the ledger takes from them."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import ValidationError

from gateway.ledger.request import Origin, Request
from niyama.kafka import ConsumedRecord
from schemas import JobControl, JobEvent, PoolTopics, QosCatalog, Refusal, decode_job
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
    """A job was published. Its `request` is an origin alone when the record is no valid job."""

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
    """A client asked for a job to be cancelled."""

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
        """What the ledger takes from `record`, or None for one that it cannot use."""
        try:
            if record.topic == self._events:
                return _report(record)
            if record.topic == self._control:
                return _cancellation(record)
            return self._submission(record)
        except (ValidationError, ValueError, OverflowError) as error:
            log.warning(
                "skipped record %s/%d/%d, which cannot be decoded: %s",
                *(record.topic, record.partition, record.offset, _first_line(error)),
            )
            return None

    def decode_all(self, records: Sequence[ConsumedRecord]) -> list[Entry]:
        """What the ledger takes from `records`, in their order."""
        return [entry for entry in map(self.decode, records) if entry is not None]

    def _submission(self, record: ConsumedRecord) -> Submission | None:
        place = (record.topic, record.partition, record.offset)
        origin = Origin(
            _EPOCH + timedelta(milliseconds=record.timestamp),
            self._pool,
            *place,
            digest(record.value or b""),
        )
        job = decode_job(storable(record.value))
        if isinstance(job, Refusal):
            # The worker refuses the record too, and says why in the event that fails the job.
            return Submission(job.job_id, Request.of_invalid(origin)) if job.job_id else None
        job_id = job.job_id or job_id_of_record(*place)
        try:
            qos = self._catalog.resolve(job.qos)
        except UnknownQosClassError:
            return Submission(job_id, Request.of_invalid(origin))
        return Submission(job_id, Request.of(job, qos, origin))


def digest(value: bytes) -> bytes:
    """Equal for records of the same bytes, and only for those."""
    return hashlib.sha256(value).digest()


def storable(value: bytes | None) -> bytes | None:
    r"""`value` with the JSON escape `\u0000` replaced by that of U+FFFD."""
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
