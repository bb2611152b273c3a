"""Deaths make suspects; only deaths in trials make a record be given up."""

import pytest

from workers.offsets.attempts import (
    MAX_CRASHES,
    AttemptHistory,
    CrashLimit,
    Exposure,
    PendingRecord,
)


@pytest.mark.parametrize(
    (
        "max_trial_crashes",
        "crashes",
        "trial_crashes",
        "is_suspect",
        "is_exhausted",
        "kills_on_decode",
    ),
    [
        (3, 0, 0, False, False, False),
        (3, 1, 0, False, False, False),
        (3, 2, 0, True, False, False),
        (3, 9, 2, True, False, False),
        (3, 5, 3, True, True, False),
        (3, 6, 4, True, True, True),
        (1, 2, 0, True, False, False),
        (1, 3, 1, True, True, False),
        (3, MAX_CRASHES - 1, 0, True, False, False),
        (3, MAX_CRASHES, 0, True, True, False),
        (3, MAX_CRASHES + 1, 0, True, True, True),
    ],
)
def test_a_record_is_tried_after_two_deaths_and_given_up_after_the_limit(
    max_trial_crashes: int,
    crashes: int,
    trial_crashes: int,
    is_suspect: bool,
    is_exhausted: bool,
    kills_on_decode: bool,
) -> None:
    history = AttemptHistory(attempts=99, crashes=crashes, trial_crashes=trial_crashes)
    limit = CrashLimit(max_trial_crashes)
    assert history.is_suspect is is_suspect
    assert limit.is_exhausted(history) is is_exhausted
    assert limit.kills_on_decode(history) is kills_on_decode


@pytest.mark.parametrize(
    ("exposure", "after_death", "after_giving_up"),
    [
        (Exposure.NONE, (4, 3, 1), (4, 3, 1)),
        (Exposure.SUBMITTED, (5, 4, 1), (4, 3, 1)),
        (Exposure.SHARED, (5, 4, 1), (5, 3, 1)),
        (Exposure.TRIAL, (5, 4, 2), (5, 3, 1)),
    ],
)
def test_what_the_next_owner_reads(
    exposure: Exposure, after_death: tuple[int, int, int], after_giving_up: tuple[int, int, int]
) -> None:
    pending = PendingRecord(AttemptHistory(4, 3, 1), exposure)
    assert pending.history_for_next_owner(crashed=True) == AttemptHistory(*after_death)
    assert pending.history_for_next_owner(crashed=False) == AttemptHistory(*after_giving_up)


@pytest.mark.parametrize(("crashes", "exposure"), [(1, Exposure.SHARED), (2, Exposure.TRIAL)])
def test_work_that_is_about_to_start_is_a_trial_for_suspects(
    crashes: int, exposure: Exposure
) -> None:
    pending = PendingRecord(AttemptHistory(3, crashes))
    pending.expose_ahead()
    assert pending.exposure is exposure


def test_surviving_a_trial_clears_those_before_it() -> None:
    pending = PendingRecord(AttemptHistory(5, 4, 2))
    pending.acquit()
    assert pending.history == AttemptHistory(5, 4, 0)
