"""What the ledger's columns make of rows that another version has written."""

from typing import Any

import pytest

from gateway.ledger.tables import Times
from schemas import JobTimes


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, None),
        ({"until_end": {"queue_s": 2.5}}, 2.5),
        ({"until_end": {"queue_s": 2.5, "drafting_s": 1.0}}, None),
        ({"until_end": "soon"}, None),
    ],
)
def test_times_of_a_newer_version_are_unknown_and_not_an_error(
    stored: Any, read: float | None
) -> None:
    times: JobTimes | None = Times().process_result_value(stored, None)
    assert (times and times.until_end.queue_s) == read
