"""The statements that write many rows together, made from the tables.

`projection` says what the merge rules mean. Rows travel as one array per column: that is one
round trip, one plan, and no text to parse, whatever the number of rows.
"""

from collections.abc import Sequence

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from gateway.ledger.rows import (
    ATTEMPT_COLUMNS,
    EVENT_COLUMNS,
    JOB_COLUMNS,
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    RESULT_COLUMNS,
)
from gateway.ledger.tables import job_events, job_results, jobs

_COUNTS = {"relegations", "parks", "terminal_events"}
_MIN_OF = {"cancel_requested_at", "worker_id", "admitted_at", "started_at", "first_token_at"}
_STATUS = (
    "CASE WHEN old.finished_at IS NOT NULL THEN old.status "
    "WHEN excluded.finished_at IS NOT NULL OR excluded.attempt > old.attempt "
    "THEN excluded.status "
    "WHEN excluded.attempt = old.attempt THEN GREATEST(old.status, excluded.status) "
    "ELSE old.status END"
)


def _merged(column: str) -> str:
    """What becomes of a column of a row that exists (`old`)."""
    if column == "status":
        return _STATUS
    if column in REQUEST_COLUMNS:
        return f"CASE WHEN old.arrived_at IS NULL THEN excluded.{column} ELSE old.{column} END"
    if column in OUTCOME_COLUMNS:
        return f"CASE WHEN old.finished_at IS NULL THEN excluded.{column} ELSE old.{column} END"
    if column in _COUNTS:
        return f"old.{column} + excluded.{column}"
    extreme = "LEAST" if column in _MIN_OF else "GREATEST"
    same_attempt = f"{extreme}(old.{column}, excluded.{column})"
    if column not in ATTEMPT_COLUMNS:
        return same_attempt
    return (
        f"CASE WHEN excluded.attempt > old.attempt THEN excluded.{column} "
        f"WHEN excluded.attempt = old.attempt THEN {same_attempt} ELSE old.{column} END"
    )


def _insert(table: Table, names: Sequence[str]) -> str:
    arrays = ", ".join(
        f"${number}::{_array_element(table.columns[name])}[]"
        for number, name in enumerate(names, start=1)
    )
    values = ", ".join(
        f"given.{name}::{_type(table.columns[name])}" if _is_array(table.columns[name]) else name
        for name in names
    )
    listed = ", ".join(names)
    return (
        f"INSERT INTO {table.name} AS old ({listed}) "
        f"SELECT {values} FROM unnest({arrays}) AS given ({listed})"
    )


def _array_element(column: Column[object]) -> str:
    # Postgres has no array of arrays of various lengths: those travel as text.
    return "text" if _is_array(column) else _type(column)


def _is_array(column: Column[object]) -> bool:
    return isinstance(column.type, postgresql.ARRAY)


def _type(column: Column[object]) -> str:
    return column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]


UPSERT_JOBS = (
    f"{_insert(jobs, JOB_COLUMNS)} ON CONFLICT (job_id) DO UPDATE SET "
    + ", ".join(f"{name} = {_merged(name)}" for name in JOB_COLUMNS if name != "job_id")
    + " RETURNING job_id, status, arrived_at, reply_topic, terminal_event_id, cancel_requested_at"
)
"""Merges patches into rows, and returns what the rows then say."""

INSERT_EVENTS = f"{_insert(job_events, EVENT_COLUMNS)} ON CONFLICT DO NOTHING RETURNING event_id"
"""Returns the events that were new."""

INSERT_RESULTS = f"{_insert(job_results, RESULT_COLUMNS)} ON CONFLICT DO NOTHING"
