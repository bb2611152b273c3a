"""Cancellations are remembered for as long as their job may arrive, and no more than so many."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas import JobControl
from workers.intake import cancellations
from workers.intake.cancellations import MAX_AGE_S, Cancellations

NOW_S = 1e9


def _cancel(number: int, age_s: float = 0) -> JobControl:
    at = datetime.fromtimestamp(NOW_S - age_s, UTC)
    return JobControl(job_id=UUID(int=number), requested_at=at, reason=str(number))


def test_what_is_older_than_any_job_is_forgotten() -> None:
    known = Cancellations()
    assert not known.add(_cancel(1, age_s=MAX_AGE_S + 1), NOW_S)
    assert known.add(_cancel(2, age_s=MAX_AGE_S - 1), NOW_S)
    assert known.by_job(UUID(int=1)) is None
    assert known.by_job(UUID(int=2)) == _cancel(2, age_s=MAX_AGE_S - 1)


def test_memory_is_bounded_and_the_latest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "MAX_REQUESTS", 3)
    known = Cancellations()
    for number in (1, 2, 3, 1, 4):
        known.add(_cancel(number), NOW_S)
    assert [number for number in range(1, 5) if known.by_job(UUID(int=number))] == [1, 3, 4]
