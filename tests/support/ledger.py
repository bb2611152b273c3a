"""What the ledger takes from records: requests, submissions, events and reports."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from gateway.ledger.job import Outcome
from gateway.ledger.records import Report, Submission
from gateway.ledger.request import Origin, Request
from schemas import JobEvent, Kind
from tests.support.records import TRACEPARENT

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
"""When jobs arrive."""

_offsets = itertools.count()


def after(seconds: float) -> datetime:
    """This long after START."""
    return START + timedelta(seconds=seconds)


def origin() -> Origin:
    """Of a job that arrived at START."""
    return Origin(START, "tiny", "jobs", 0, 0, b"digest")


def request(**changes: Any) -> Request:
    """A batch request that arrived at START; `changes` are fields of it."""
    return replace(Request.of_invalid(origin()), **{"model": "m", "kind": Kind.BATCH} | changes)


def outcome(finished_s: float | None) -> Outcome | None:
    """Of a job that ended this long after START, or of one that is open."""
    return None if finished_s is None else Outcome(after(finished_s), uuid4(), *[None] * 4)


def submission(job_id: UUID, **changes: Any) -> Submission:
    """The entry of a published job; `changes` are fields of its request."""
    fields = {"source_offset": next(_offsets), "metadata": {"a": "b"}}
    return Submission(job_id, request(**fields | changes))


def source(submitted: Submission) -> dict[str, object]:
    """What an event about this record says in `source`."""
    request = submitted.request
    return {
        "topic": request.source_topic,
        "partition": request.source_partition,
        "offset": request.source_offset,
    }


def event(job_id: UUID, kind: str, at: datetime = START, **changes: Any) -> JobEvent:
    """An event of a worker; `changes` are fields of it."""
    fields = {
        "event_id": uuid4(),
        "job_id": job_id,
        "type": kind,
        "at": at,
        "attempt": 1,
        "worker_id": "worker-1",
        "pool": "tiny",
    }
    return JobEvent.model_validate(fields | changes)


def report(job_id: UUID, kind: str, second: float = 0, **changes: Any) -> Report:
    """The entry of an event that happened this long after START."""
    reported = event(job_id, kind, after(second), **changes)
    return Report(
        reported,
        reported.to_bytes(),
        [("traceparent", TRACEPARENT)],
    )
