"""Where the time to a job's first event goes."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.pipeline import Seen, breakdown

JOB = UUID("01a1fd07-8d69-7538-b1cd-a6c7a0c91219")
START_S = 1_795_000_000.0

shares = st.none() | st.floats(0, 1)


@given(
    at=st.lists(st.integers(0, 10**6), min_size=4, max_size=4).map(sorted),
    publish_s=shares,
    queue_s=shares,
)
def test_the_parts_are_the_whole(
    at: list[int], publish_s: float | None, queue_s: float | None
) -> None:
    arrived_s, event_s, asked_s, seen_s = (START_S + each / 1e6 for each in at)
    parts = {"publish_s": publish_s, "queue_s": queue_s}
    shown: dict[str, Any] = {
        "arrived_at": _iso(arrived_s),
        "events": [{"at": _iso(event_s)}],
        "times": {"until_first_token": None, "until_end": parts},
    }
    seen = Seen(JOB, START_S, asked_s, seen_s)

    assert sum(breakdown(seen, shown).values()) == pytest.approx(seen.latency_s, abs=1e-5)


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()
