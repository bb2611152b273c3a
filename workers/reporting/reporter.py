"""Events, tokens and dead letters as records for Kafka."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypedDict, Unpack

from uuid_utils.compat import uuid7

from niyama.dead_letters import DeadLetter, dead_letter
from niyama.kafka import ConsumedRecord, source_of
from schemas import (
    EventType,
    JobError,
    JobEvent,
    JobResult,
    JobTimes,
    PoolTopics,
    Prediction,
    TokenChunk,
    Usage,
)
from schemas.event import Source
from schemas.topics import MAX_VALUE_BYTES
from workers.reporting.batch_sender import BatchSender
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.outgoing import Delivered, OutgoingRecord

log = logging.getLogger(__name__)


class EventDetails(TypedDict, total=False):
    """What some events have besides their type and time; see `JobEvent`."""

    reason: str | None
    usage: Usage
    largest_gap_ms: float | None
    prediction: Prediction
    times: JobTimes | None
    trace_id: str | None
    result: JobResult
    error: JobError
    duplicate_of: Source | None


class Reporter:
    """Makes records and hands them to the sender without waiting."""

    def __init__(
        self,
        sender: BatchSender,
        topics: PoolTopics,
        *,
        worker_id: str,
        pool: str,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives UTC epoch seconds."""
        self._sender = sender
        self._topics = topics
        self._worker_id = worker_id
        self._pool = pool
        self._clock = clock
        self.refusals: Counter[str] = Counter()
        """Records that were refused, by the code of the error."""

    def event(
        self,
        attempt: JobAttempt,
        kind: EventType,
        *,
        at_s: float | None = None,
        on_delivered: Delivered | None = None,
        **details: Unpack[EventDetails],
    ) -> None:
        """Report one step of a job, by default as of now. `at_s` is in UTC epoch seconds."""
        at_s = self._clock() if at_s is None else at_s
        event = JobEvent(
            event_id=uuid7(),
            job_id=attempt.job_id,
            type=kind,
            at=datetime.fromtimestamp(at_s, UTC),
            attempt=attempt.number,
            worker_id=self._worker_id,
            pool=self._pool,
            source=attempt.source,
            **details,
        )
        record = _record(attempt, event, on_delivered)
        if event.result is not None and record.size_bytes > MAX_VALUE_BYTES:
            record = _record(attempt, _too_large(event, record.size_bytes), on_delivered)
        self._sender.put(self._topics.events.name, record)

    def tokens(self, attempt: JobAttempt, chunk: TokenChunk) -> None:
        """Publish streamed output. Nothing waits for its delivery."""
        at_ms = int(chunk.at.timestamp() * 1000)
        record = OutgoingRecord(
            attempt.key,
            chunk.to_bytes(),
            at_ms,
            attempt.trace,
            is_superseded=attempt.is_superseded,
        )
        self._sender.put(self._topics.tokens.name, record)

    def refused(
        self,
        record: ConsumedRecord,
        attempt: JobAttempt | None,
        error: JobError,
        on_delivered: Delivered,
        /,
        *,
        at_s: float,
        **details: Unpack[EventDetails],
    ) -> None:
        """Send a dead letter and then, unless `attempt` is None, the job's `failed` event.

        The job fails at `at_s`, in UTC epoch seconds; its event has the `error` and `details`.
        """
        self.refusals[error.code] += 1
        log.info("refused %s: %s", source_of(record), error.message)

        def dead_letter_delivered() -> None:
            if attempt is None:
                on_delivered()
            else:
                details["error"] = error
                self.event(
                    attempt, EventType.FAILED, at_s=at_s, on_delivered=on_delivered, **details
                )

        at_ms = int(at_s * 1000)

        def outgoing(letter: DeadLetter) -> OutgoingRecord:
            return OutgoingRecord(
                letter.key, letter.value, at_ms, letter.headers, dead_letter_delivered
            )

        letter = dead_letter(record, error, self._worker_id)
        whole = replace(outgoing(letter), smaller=lambda: outgoing(letter.without_value()))
        self._sender.put(self._topics.dead_letters.name, whole)


def _record(attempt: JobAttempt, event: JobEvent, on_delivered: Delivered | None) -> OutgoingRecord:
    value, at_ms = event.to_bytes(), int(event.at.timestamp() * 1000)
    smaller = None
    if event.result is not None:
        # The result itself need not wait: it is in `value`.
        without = event.model_copy(update={"result": None})

        def smaller() -> OutgoingRecord:
            return _record(attempt, _too_large(without, len(value)), on_delivered)

    return OutgoingRecord(
        *(attempt.key, value, at_ms, attempt.trace),
        *(on_delivered, attempt.is_superseded, smaller),
    )


def _too_large(event: JobEvent, size_bytes: int) -> JobEvent:
    """The job fails: its result is larger than what its topic accepts."""
    error = result_too_large(size_bytes)
    return event.model_copy(update={"type": EventType.FAILED, "result": None, "error": error})


def result_too_large(size_bytes: int | None = None) -> JobError:
    """No record can hold a job's result, which has so many bytes, if that is known."""
    size = "larger" if size_bytes is None else f"{size_bytes:,} bytes, more"
    message = (
        f"the result is {size} than the events topic accepts: "
        "ask for fewer tokens, or for fewer log probabilities"
    )
    return JobError(code="too_large", message=message)
