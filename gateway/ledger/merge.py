"""The statements that write many rows together, made from the tables.

`projection` says what the merge rules mean. Rows travel as one array per column: that is one
round trip, one plan, and no text to parse, whatever the number of rows.
"""

from collections.abc import Sequence

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from gateway.ledger.projection import STEPS
from gateway.ledger.rows import (
    ATTEMPT_COLUMNS,
    EVENT_COLUMNS,
    JOB_COLUMNS,
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    RESULT_COLUMNS,
    SOURCE_COLUMNS,
)
from gateway.ledger.tables import job_events, job_results, jobs

_COUNTS = {"relegations", "parks", "terminal_events"}
_TIMES = {time for _, time in STEPS.values()}
_MIN_OF = {"cancel_requested_at", "worker_id", *_TIMES}
_STATUS = (
    "CASE WHEN old.finished_at IS NOT NULL THEN old.status "
    "WHEN excluded.finished_at IS NOT NULL OR excluded.attempt > old.attempt "
    "THEN excluded.status "
    "WHEN excluded.attempt = old.attempt THEN GREATEST(old.status, excluded.status) "
    "ELSE old.status END"
)
_ATTEMPT = (
    "CASE WHEN old.finished_at IS NOT NULL THEN old.attempt "
    "WHEN excluded.finished_at IS NOT NULL THEN excluded.attempt "
    "ELSE GREATEST(old.attempt, excluded.attempt) END"
)


def _merged(column: str) -> str:
    """What becomes of a column of a row that exists (`old`)."""
    if column == "status":
        return _STATUS
    if column == "attempt":
        return _ATTEMPT
    if column in SOURCE_COLUMNS:
        return f"COALESCE(old.{column}, excluded.{column})"
    if column in REQUEST_COLUMNS:
        return f"CASE WHEN old.arrived_at IS NULL THEN excluded.{column} ELSE old.{column} END"
    if column in OUTCOME_COLUMNS:
        return f"CASE WHEN old.finished_at IS NULL THEN excluded.{column} ELSE old.{column} END"
    if column in _COUNTS:
        return f"old.{column} + excluded.{column}"
    extreme = "LEAST" if column in _MIN_OF else "GREATEST"
    extreme_of_both = f"{extreme}(old.{column}, excluded.{column})"
    if column in _TIMES:
        return _merged_time(column)
    if column in ATTEMPT_COLUMNS:
        return _merged_measure(column, extreme_of_both)
    return extreme_of_both


def _merged_time(column: str) -> str:
    # An attempt below the row's newest one has ended the job: its times are in the history
    # alone, see TIMES_FROM_HISTORY.
    return (
        f"CASE WHEN excluded.attempt = old.attempt THEN LEAST(old.{column}, excluded.{column}) "
        f"WHEN old.finished_at IS NOT NULL THEN old.{column} "
        f"WHEN excluded.attempt > old.attempt THEN excluded.{column} "
        f"WHEN excluded.finished_at IS NOT NULL THEN NULL ELSE old.{column} END"
    )


def _merged_measure(column: str, within_attempt: str) -> str:
    # The event that ends a job has the last word on these.
    return (
        f"CASE WHEN old.finished_at IS NOT NULL THEN old.{column} "
        f"WHEN excluded.finished_at IS NOT NULL OR excluded.attempt > old.attempt "
        f"THEN excluded.{column} "
        f"WHEN excluded.attempt = old.attempt THEN {within_attempt} ELSE old.{column} END"
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


_SAME_RECORD = "old.source_topic IS NULL OR excluded.source_topic IS NULL OR " + " AND ".join(
    f"old.{name} = excluded.{name}" for name in SOURCE_COLUMNS
)

UPSERT_JOBS = (
    f"{_insert(jobs, JOB_COLUMNS)} ON CONFLICT (job_id) DO UPDATE SET "
    + ", ".join(f"{name} = {_merged(name)}" for name in JOB_COLUMNS if name != "job_id")
    + f" WHERE {_SAME_RECORD} "
    + "RETURNING job_id, status, arrived_at, reply_topic, attempt, newest_attempt, "
    + "terminal_event_id, finished_at, cancel_requested_at"
)
"""Merges patches into rows, and returns what the rows then say.

A job whose row is about another record than its patch is left as it is, and not returned.
"""

_SEEN_TIMES = ", ".join(
    f"min(at) FILTER (WHERE type = '{kind}') AS {time}" for kind, (_, time) in STEPS.items()
)
TIMES_FROM_HISTORY = (
    "UPDATE jobs SET "
    + ", ".join(f"{time} = LEAST(jobs.{time}, seen.{time})" for _, time in STEPS.values())
    + f" FROM (SELECT job_id, attempt, {_SEEN_TIMES} FROM job_events "
    + "WHERE job_id = ANY($1) GROUP BY job_id, attempt) AS seen "
    + "WHERE jobs.job_id = seen.job_id AND jobs.attempt = seen.attempt"
)
"""Completes the times of the attempts that these rows show."""

INSERT_EVENTS = (
    f"{_insert(job_events, EVENT_COLUMNS)} ON CONFLICT DO NOTHING RETURNING job_id, at, event_id"
)
"""Returns the keys of the events that were new."""

INSERT_RESULTS = f"{_insert(job_results, RESULT_COLUMNS)} ON CONFLICT DO NOTHING"
