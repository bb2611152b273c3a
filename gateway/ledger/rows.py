"""Patches and events as rows, in the column order of the statements that write them; and back."""

import json
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any

import sqlalchemy
from pydantic_core import to_json

from gateway.ledger.claims import Position
from gateway.ledger.job import Attempt, Incidents, Job, Outcome
from gateway.ledger.projection import JobPatch
from gateway.ledger.request import Request
from schemas import JobEvent

Row = tuple[Any, ...]

REQUEST_COLUMNS = tuple(part.name for part in fields(Request))
ATTEMPT_COLUMNS = tuple(part.name for part in fields(Attempt))
OUTCOME_COLUMNS = tuple(part.name for part in fields(Outcome))
INCIDENT_COLUMNS = tuple(part.name for part in fields(Incidents))

JOB_COLUMNS = (
    *("job_id", "status"),
    *(*REQUEST_COLUMNS, *ATTEMPT_COLUMNS, *OUTCOME_COLUMNS, *INCIDENT_COLUMNS),
)
EVENT_COLUMNS = (
    *("job_id", "at", "event_id", "type", "attempt", "worker_id", "reason", "prediction"),
)
RESULT_COLUMNS = ("job_id", "text", "token_ids", "logprobs")

SOURCE_COLUMNS = ("source_topic", "source_partition", "source_offset")
"""Part of the request's, and the only ones of it that events know too."""

_METADATA = REQUEST_COLUMNS.index("metadata")
_TIMES = OUTCOME_COLUMNS.index("times")
_request = attrgetter(*REQUEST_COLUMNS)
_attempt = attrgetter(*ATTEMPT_COLUMNS)
_outcome = attrgetter(*OUTCOME_COLUMNS)
_incidents = attrgetter(*INCIDENT_COLUMNS)
_NO_REQUEST = (None,) * len(REQUEST_COLUMNS)
_SOURCE = slice(
    REQUEST_COLUMNS.index(SOURCE_COLUMNS[0]), REQUEST_COLUMNS.index(SOURCE_COLUMNS[-1]) + 1
)
_NO_OUTCOME = (None,) * len(OUTCOME_COLUMNS)


def job_row(patch: JobPatch) -> Row:
    """A row in the order of JOB_COLUMNS."""
    return (
        patch.job_id,
        patch.status,
        *(_request_row(patch.request) if patch.request else _source_alone(patch.source)),
        *_attempt(patch.attempt),
        *(_outcome_row(patch.outcome) if patch.outcome else _NO_OUTCOME),
        *_incidents(patch.incidents),
    )


def job_of(row: sqlalchemy.Row[Any]) -> Job:
    """The job in a selected row, which has the columns of `jobs`."""
    return Job(
        row.job_id,
        Request(*_request(row)) if row.arrived_at is not None else None,
        row.status,
        Attempt(*_attempt(row)),
        Outcome(*_outcome(row)) if row.finished_at is not None else None,
        Incidents(*_incidents(row)),
        row.abandoned_at if row.finished_at is None else None,
    )


def event_row(event: JobEvent) -> Row:
    """A row in the order of EVENT_COLUMNS."""
    prediction = event.prediction
    return (
        event.job_id,
        event.at,
        event.event_id,
        event.type.value,
        event.attempt,
        event.worker_id,
        event.reason,
        prediction.model_dump_json(exclude_none=True) if prediction else None,
    )


def result_row(event: JobEvent) -> Row:
    """A row in the order of RESULT_COLUMNS. The event has a result."""
    result = event.result
    assert result is not None
    return (
        event.job_id,
        result.text,
        None if result.token_ids is None else f"{{{','.join(map(str, result.token_ids))}}}",
        # NaN and Infinity, which Postgres refuses in JSON, become null.
        None if result.logprobs is None else to_json(result.logprobs, inf_nan_mode="null").decode(),
    )


def columns(rows: Iterable[Row]) -> list[Row]:
    """One tuple per column. There is at least one row."""
    return list(zip(*rows, strict=True))


def _request_row(request: Request) -> Row:
    row: Row = _request(request)
    if request.metadata is None:
        return row
    return (*row[:_METADATA], json.dumps(request.metadata), *row[_METADATA + 1 :])


def _outcome_row(outcome: Outcome) -> Row:
    row: Row = _outcome(outcome)
    if outcome.times is None:
        return row
    times = outcome.times.model_dump_json(exclude_none=True)
    return (*row[:_TIMES], times, *row[_TIMES + 1 :])


def _source_alone(source: Position | None) -> Row:
    if source is None:
        return _NO_REQUEST
    return (*_NO_REQUEST[: _SOURCE.start], *source, *_NO_REQUEST[_SOURCE.stop :])
