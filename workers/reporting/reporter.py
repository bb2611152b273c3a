"""What a worker tells the world: events, tokens and dead letters, as records in the outbox."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from niyama.kafka import ConsumedRecord
from schemas import EventType, JobError, JobEvent, PoolTopics, TokenChunk
from schemas import headers as header_names
from schemas.event import Source
from schemas.headers import Headers, trace_context
from schemas.topics import MAX_RECORD_BYTES
from workers.reporting.batch_sender import Delivered, Outbox, OutgoingRecord

log = logging.getLogger(__name__)

HEADER_OVERHEAD_BYTES = 10
MAX_EVENT_BYTES = MAX_RECORD_BYTES - 64 * 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """One attempt at one job: whom an event is about."""

    job_id: UUID
    attempt: int
    source: Source
    headers: Headers = ()
    """The job's trace context."""

    @property
    def key(self) -> bytes:
        return str(self.job_id).encode()


class Reporter:
    """Makes records and puts them into the outbox; returns at once."""

    def __init__(
        self,
        outbox: Outbox,
        topics: PoolTopics,
        *,
        worker_id: str,
        pool: str,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` gives UTC epoch seconds."""
        self._outbox = outbox
        self._topics = topics
        self._worker_id = worker_id
        self._pool = pool
        self._clock = clock

    def event(
        self,
        subject: Subject,
        kind: EventType,
        *,
        at_s: float | None = None,
        on_delivered: Delivered | None = None,
        **details: Any,
    ) -> None:
        """Report one step of a job; ``details`` are JobEvent's further fields."""
        at_s = self._clock() if at_s is None else at_s
        event = JobEvent(
            event_id=uuid7(),
            job_id=subject.job_id,
            type=kind,
            at=datetime.fromtimestamp(at_s, UTC),
            attempt=subject.attempt,
            worker_id=self._worker_id,
            pool=self._pool,
            source=subject.source,
            **details,
        )
        value = event.to_bytes()
        if len(value) > MAX_EVENT_BYTES:
            value = _too_large(event, len(value)).to_bytes()
        record = OutgoingRecord(subject.key, value, int(at_s * 1000), subject.headers, on_delivered)
        self._outbox.put(self._topics.events.name, record)

    def tokens(self, subject: Subject, chunk: TokenChunk) -> None:
        """Publish streamed output. Nothing waits for its delivery."""
        at_ms = int(chunk.at.timestamp() * 1000)
        record = OutgoingRecord(subject.key, chunk.to_bytes(), at_ms, subject.headers)
        self._outbox.put(self._topics.tokens.name, record)

    def refused(
        self,
        record: ConsumedRecord,
        subject: Subject | None,
        error: JobError,
        on_delivered: Delivered,
    ) -> None:
        """Dead letter first, then the ``failed`` event when ``subject`` says of which job."""
        log.info(
            "refused %s/%d at %d: %s", record.topic, record.partition, record.offset, error.message
        )

        def dead_letter_delivered() -> None:
            if subject is None:
                on_delivered()
            else:
                self.event(subject, EventType.FAILED, error=error, on_delivered=on_delivered)

        headers = dead_letter_headers(record, error, self._worker_id)
        letter = OutgoingRecord(
            record.key,
            record.value if _fits(record, headers) else None,
            int(self._clock() * 1000),
            headers,
            dead_letter_delivered,
        )
        self._outbox.put(self._topics.dead_letters.name, letter)


def dead_letter_headers(
    record: ConsumedRecord, error: JobError, worker_id: str
) -> list[tuple[str, bytes]]:
    """The record's own headers, and where it came from and why it was refused."""
    added = {
        header_names.REASON: error.message,
        header_names.REASON_CODE: error.code,
        header_names.SOURCE_TOPIC: record.topic,
        header_names.SOURCE_PARTITION: str(record.partition),
        header_names.SOURCE_OFFSET: str(record.offset),
        header_names.WORKER_ID: worker_id,
    }
    encoded = [(name, text.encode(errors="backslashreplace")) for name, text in added.items()]
    return [*(header for header in record.headers if header[0] not in added), *encoded]


def _fits(record: ConsumedRecord, headers: Headers) -> bool:
    """Whether a topic carries the dead letter. If not, its headers tell where the original is."""
    size = sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in headers)
    return size + len(record.value or b"") + len(record.key or b"") < MAX_EVENT_BYTES


def source_of(record: ConsumedRecord) -> Source:
    """Where a record is, for events."""
    return Source(topic=record.topic, partition=record.partition, offset=record.offset)


def subject_of(record: ConsumedRecord, job_id: UUID, attempt: int) -> Subject:
    return Subject(job_id, attempt, source_of(record), _trace(record.headers))


def _trace(headers: Sequence[tuple[str, bytes]]) -> Headers:
    return trace_context(headers) if headers else ()


def _too_large(event: JobEvent, size_bytes: int) -> JobEvent:
    """Results are bounded by what a topic carries; the job has failed, and says why."""
    message = (
        f"the result is {size_bytes:,} bytes, and events carry at most {MAX_EVENT_BYTES:,}: "
        "ask for fewer tokens, or for fewer log probabilities"
    )
    return event.model_copy(
        update={
            "type": EventType.FAILED,
            "result": None,
            "error": JobError(code="too_large", message=message),
        }
    )
