"""Cursors of lists."""

import base64
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.job import Job
from gateway.ledger.queries import BadCursorError, Cursor
from tests.support.ledger import START, request

NAIVE, BEFORE_YEAR_1 = (
    base64.urlsafe_b64encode(f"{time} {UUID(int=1)}".encode()).decode()
    for time in ("2026-11-21T09:00:00", "0001-01-01T00:00:00+01:00")
)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_comes_back_as_it_was(arrived_at: datetime, job_id: UUID) -> None:
    cursor = Cursor(arrived_at, job_id)

    assert Cursor.decode(cursor.encode()) == cursor


def test_a_page_ends_at_its_last_job() -> None:
    job = Job(uuid4(), request())

    assert Cursor.after(job) == Cursor(START, job.job_id)


@pytest.mark.parametrize("text", ["x", "!!!", "AAAA", "é", "MjAyNg", "", NAIVE, BEFORE_YEAR_1])
def test_a_made_up_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadCursorError):
        Cursor.decode(text)
