"""The statements cover the tables."""

from gateway.ledger import rows, tables


def test_every_column_of_a_job_is_written() -> None:
    by_the_reconciler, by_operators = {"abandoned_at"}, {"reply_dropped_at"}
    written = {*rows.JOB_COLUMNS, *by_the_reconciler, *by_operators}
    assert written == {column.name for column in tables.jobs.columns}
    assert len(rows.JOB_COLUMNS) == len(set(rows.JOB_COLUMNS))


def test_every_column_of_the_history_and_of_results_is_written() -> None:
    assert set(rows.EVENT_COLUMNS) == {column.name for column in tables.job_events.columns}
    assert set(rows.RESULT_COLUMNS) == {column.name for column in tables.job_results.columns}
