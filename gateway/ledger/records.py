"""From Kafka records to what the ledger takes from them."""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from gateway.ledger.lenient import readable_part
from gateway.ledger.request import Origin, Request
from niyama.kafka import ConsumedRecord, source_of
from niyama.logs import Throttle
from schemas import JobError, JobEvent, PoolTopics, QosCatalog, Refusal, decode_job
from schemas.arrival import arrival_ms
from schemas.decode import decode_control, decode_event, job_id_of_record
from schemas.headers import trace_context
from schemas.qos import UnknownQosClassError

log = logging.getLogger(__name__)

# A NUL character is fine in JSON and refused by Postgres. An even number of backslashes before
# the escape are backslashes of their own; an odd one would escape its backslash.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT = rb"\1\\ufffd"
PAUSE_INTERVAL_S = 0.01
"""Between two moments for others, while records are decoded."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job was published. When the record is no valid job, its `request` is what can be read."""

    job_id: UUID
    request: Request


@dataclass(frozen=True, slots=True)
class Report:
    """An event: what a worker, or the ledger itself, says happened to a job."""

    event: JobEvent
    value: bytes
    """The event's record, byte for byte."""
    trace: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A client asked for a job to be cancelled."""

    job_id: UUID
    requested_at: datetime
    """When its record arrived. What that says itself may be any time between the years 1 and 9999,
    and a job that is cancelled while queued ends then."""


Entry = Submission | Report | Cancellation


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that the ledger can take nothing from, and why. It becomes a dead letter."""

    record: ConsumedRecord
    error: JobError


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the ledger takes from some records, in their order, and which of them are unusable."""

    entries: list[Entry]
    unusable: list[Unusable]


class RecordDecoder:
    """Knows which topic carries what, and the QoS classes that jobs name."""

    def __init__(
        self,
        topics: PoolTopics,
        catalog: QosCatalog,
        pool: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds."""
        self._events = topics.events.name
        self._control = topics.control.name
        self._catalog = catalog
        self._pool = pool
        self._clock = clock
        self._throttle = Throttle()

    def decode(self, record: ConsumedRecord) -> Entry | Unusable | None:
        """What the ledger takes from `record`; None when it rightly takes nothing.

        Whatever is wrong with it, or with the code that reads it, concerns this record alone.
        """
        try:
            if record.topic == self._events:
                return _report(record)
            if record.topic == self._control:
                return _cancellation(record)
            return self._submission(record)
        except Exception as error:
            self._throttle.exception(log, "cannot handle the record in %s", source_of(record))
            return Unusable(record, unexpected(error))

    async def decode_all(self, records: Sequence[ConsumedRecord]) -> Decoded:
        """What `decode` finds, with time for others between the records."""
        decoded = Decoded([], [])
        pause_at_s = self._clock() + PAUSE_INTERVAL_S
        for record in records:
            found = self.decode(record)
            if self._clock() >= pause_at_s:
                await asyncio.sleep(0)
                pause_at_s = self._clock() + PAUSE_INTERVAL_S
            if isinstance(found, Unusable):
                decoded.unusable.append(found)
            elif found is not None:
                decoded.entries.append(found)
        return decoded

    def _submission(self, record: ConsumedRecord) -> Submission | None:
        place = (record.topic, record.partition, record.offset)
        origin = Origin(_arrived_at(record), self._pool, *place, digest(record.value or b""))
        value = storable(record.value)
        job = decode_job(value)
        if isinstance(job, Refusal):
            # The worker refuses the record too: it writes the dead letter, and the event that says
            # why the job failed.
            refused_id = job.at(*place).job_id
            if refused_id is None:
                return None
            return Submission(refused_id, Request.of_invalid(origin, **readable_part(value)))
        job_id = job.job_id or job_id_of_record(*place)
        try:
            qos = self._catalog.resolve(job.qos)
        except UnknownQosClassError:
            return Submission(job_id, Request.of_invalid(origin, **readable_part(value)))
        return Submission(job_id, Request.of(job, qos, origin))


def unexpected(error: Exception) -> JobError:
    """Why a record is unusable when reading it failed unexpectedly."""
    message = f"the ledger could not handle this record: {type(error).__name__}: {error}"
    return JobError(code="internal_error", message=message)


def digest(value: bytes) -> bytes:
    """Equal for records of the same bytes, and only for those."""
    return hashlib.sha256(value).digest()


def storable(value: bytes | None) -> bytes | None:
    r"""`value` with the JSON escape `\u0000` replaced by that of U+FFFD."""
    if value is None or b"\\u0000" not in value:
        return value
    return _NUL.sub(_REPLACEMENT, value)


def _report(record: ConsumedRecord) -> Report | Unusable:
    # A type that this gateway does not know is refused: a newer worker's event is then a dead
    # letter, and not lost.
    event = decode_event(storable(record.value) or b"")
    if isinstance(event, JobError):
        return Unusable(record, event)
    trace = trace_context(record.headers) if event.type.is_terminal else []
    return Report(event, record.value or b"", trace)


def _cancellation(record: ConsumedRecord) -> Cancellation | Unusable | None:
    if record.value is None:  # a tombstone in a compacted topic
        return None
    request = decode_control(storable(record.value) or b"")
    if isinstance(request, JobError):
        return Unusable(record, request)
    return Cancellation(request.job_id, _arrived_at(record))


def _arrived_at(record: ConsumedRecord) -> datetime:
    return _EPOCH + timedelta(milliseconds=arrival_ms(record.timestamp))
