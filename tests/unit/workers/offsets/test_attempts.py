"""How many workers a record may crash, and what counts as an attempt before it starts."""

import pytest

from workers.offsets.attempts import AttemptHistory, CrashLimit, PendingRecord


@pytest.mark.parametrize(
    ("max_attempts", "crashes", "is_last_chance", "is_exhausted", "kills_on_decode"),
    [
        (3, 0, False, False, False),
        (3, 1, False, False, False),
        (3, 2, True, False, False),
        (3, 3, False, True, False),
        (3, 4, False, True, True),
        (2, 0, False, False, False),
        (2, 1, True, False, False),
        (2, 2, False, True, False),
        (1, 0, False, False, False),
        (1, 1, False, True, False),
        (1, 2, False, True, True),
    ],
)
def test_a_record_runs_until_the_limit_and_alone_before_it(
    max_attempts: int, crashes: int, is_last_chance: bool, is_exhausted: bool, kills_on_decode: bool
) -> None:
    limit, history = CrashLimit(max_attempts), AttemptHistory(attempts=9, crashes=crashes)
    assert limit.is_last_chance(history) is is_last_chance
    assert limit.is_exhausted(history) is is_exhausted
    assert limit.kills_on_decode(history) is kills_on_decode


@pytest.mark.parametrize(("crashes", "counts"), [(0, True), (1, True), (2, False), (3, True)])
def test_an_attempt_counts_ahead_unless_it_is_the_last_chance(crashes: int, counts: bool) -> None:
    pending = PendingRecord(AttemptHistory(attempts=3, crashes=crashes))
    pending.count_ahead(CrashLimit(3))
    assert pending.attempt_counts is counts
