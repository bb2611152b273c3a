"""What the API says about a job, at a given time."""

import base64
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.views import summary
from gateway.ledger.queries import BadCursorError, Cursor
from gateway.ledger.rows import JOB_COLUMNS

ARRIVED = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


NAIVE = base64.urlsafe_b64encode(f"2026-11-21T09:00:00 {uuid4()}".encode()).decode()


def after(seconds: float) -> datetime:
    return ARRIVED + timedelta(seconds=seconds)


def row(**changes: Any) -> SimpleNamespace:
    columns = dict.fromkeys(JOB_COLUMNS) | {
        "job_id": uuid4(),
        "status": "queued",
        "arrived_at": ARRIVED,
        "attempt": 0,
        "relegations": 0,
        "parks": 0,
        "terminal_events": 0,
    }
    return SimpleNamespace(**columns | changes)


def chat(**changes: Any) -> SimpleNamespace:
    targets = {"kind": "interactive", "ttft_s": 1.0, "tbt_s": 0.1, "deadline_at": after(1)}
    return row(**targets | changes)


def batch(**changes: Any) -> SimpleNamespace:
    return row(**{"kind": "batch", "ttlt_s": 60.0, "deadline_at": after(60)} | changes)


def test_slack_is_what_is_left_until_the_deadline() -> None:
    assert summary(chat(), after(0.25)).slack_s == pytest.approx(0.75)
    assert summary(batch(), after(70)).slack_s == pytest.approx(-10)


def test_there_is_no_slack_once_the_deadline_was_met_or_the_job_is_over() -> None:
    assert summary(chat(first_token_at=after(0.5)), after(2)).slack_s is None
    assert summary(batch(finished_at=after(3), status="failed"), after(4)).slack_s is None


def test_an_interactive_job_met_its_deadlines() -> None:
    job = chat(
        status="completed", first_token_at=after(0.9), largest_gap_ms=99.0, finished_at=after(3)
    )

    shown = summary(job, after(10))

    assert (shown.deadlines_met.ttft, shown.deadlines_met.tbt) == (True, True)
    assert shown.measured.ttft_s == pytest.approx(0.9)
    assert shown.measured.ttlt_s == pytest.approx(3)


def test_a_gap_too_long_is_a_miss_at_once_and_a_short_one_says_nothing_yet() -> None:
    running = {"status": "running", "first_token_at": after(1.5)}

    assert summary(chat(largest_gap_ms=101.0, **running), after(2)).deadlines_met.tbt is False
    assert summary(chat(largest_gap_ms=20.0, **running), after(2)).deadlines_met.tbt is None
    assert summary(chat(**running), after(2)).deadlines_met.ttft is False


def test_a_deadline_that_passes_unmet_is_missed_before_the_job_ends() -> None:
    assert summary(batch(), after(59)).deadlines_met.ttlt is None
    assert summary(batch(), after(61)).deadlines_met.ttlt is False
    assert (
        summary(batch(status="failed", finished_at=after(5)), after(6)).deadlines_met.ttlt is False
    )


def test_a_cancelled_job_neither_met_nor_missed_anything() -> None:
    shown = summary(batch(status="cancelled", finished_at=after(5)), after(100))

    assert shown.deadlines_met.ttlt is None


def test_a_job_is_relegated_until_it_is_restored() -> None:
    assert summary(batch(relegated_at=after(3)), after(9)).relegated
    assert not summary(batch(relegated_at=after(3), restored_at=after(4)), after(9)).relegated
    assert summary(batch(relegated_at=after(5), restored_at=after(4)), after(9)).relegated


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_comes_back_as_it_was(arrived_at: datetime, job_id: Any) -> None:
    cursor = Cursor(arrived_at, job_id)

    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize("text", ["x", "!!!", "AAAA", "é", "MjAyNg", "", NAIVE])
def test_a_made_up_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadCursorError):
        Cursor.decode(text)
