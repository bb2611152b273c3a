"""Cancellations are remembered, and no more than so many."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas import JobControl
from workers.intake import cancellations
from workers.intake.cancellations import Cancellations


def test_memory_is_bounded_and_the_latest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "MAX_REQUESTS", 3)
    known, now = Cancellations(), datetime.now(UTC)
    for number in (1, 2, 3, 1, 4):
        known.add(JobControl(job_id=UUID(int=number), requested_at=now))
    assert [number for number in range(1, 5) if known.by_job(UUID(int=number))] == [1, 3, 4]
