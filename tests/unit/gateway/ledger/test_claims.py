"""Which of a poll's entries count."""

from collections.abc import Collection
from uuid import UUID, uuid4

import pytest

from gateway.ledger.claims import Claim, Claims, Position
from gateway.ledger.records import Cancellation, Entry, Report, Submission
from tests.support.ledger import START, after, report, source, submission

JOB_ID = uuid4()


def upheld(
    *entries: Entry, lost: Collection[int] = (), own: Collection[int] = ()
) -> list[Entry | Claim]:
    """`lost` and `own`: the places of claims to jobs that the ledger has with another record, or
    with this one."""
    claims = Claims(entries)
    known = dict.fromkeys(lost, False) | dict.fromkeys(own, True)
    return list(claims.upheld([known.get(place) for place in range(len(claims.distinct))]))


def refusal(refused: Submission, duplicate_of: Submission | None = None) -> Report:
    """Of a second record; workers of old versions do not say which one was the first."""
    return report(
        JOB_ID,
        "failed",
        source=source(refused),
        duplicate_of=duplicate_of and source(duplicate_of),
        error={"code": "duplicate_job_id", "message": "why"},
    )


def claim(of: Submission) -> Claim:
    return Claim(of.job_id, Position.of_record(of.request))


def test_records_with_ids_of_their_own_all_count() -> None:
    own = [submission(UUID(int=number)) for number in range(3)]
    events = [report(each.job_id, "started", source=source(each)) for each in own]

    assert upheld(*own, *events) == [*own, *events]


def test_of_two_records_the_first_counts_with_its_events() -> None:
    first, second = submission(JOB_ID), submission(JOB_ID)
    event, foreign = (report(JOB_ID, "failed", source=source(each)) for each in (first, second))

    assert upheld(first, foreign, second, event) == [first, event]


def test_of_two_records_that_are_read_together_the_one_that_arrived_first_counts() -> None:
    late = submission(JOB_ID, arrived_at=after(1))
    early = submission(JOB_ID, source_partition=1)

    assert upheld(late, early) == [early]


def test_within_a_partition_the_first_record_counts_whatever_producers_clocks_say() -> None:
    first, second = submission(JOB_ID, arrived_at=after(1)), submission(JOB_ID)

    assert upheld(first, second) == [first]


def test_an_event_that_comes_first_speaks_for_its_record() -> None:
    other, own = submission(JOB_ID), submission(JOB_ID, arrived_at=after(1))
    event = report(JOB_ID, "started", source=source(own))

    assert upheld(event, other) == [event]


def test_a_claim_that_is_lost_takes_its_entries_along() -> None:
    first, second = submission(JOB_ID), submission(JOB_ID)
    event = report(JOB_ID, "failed", source=source(first))

    assert upheld(first, event, second, lost={0}) == [second]
    assert upheld(first, event, second, lost={0, 1}) == []


def test_what_names_no_record_always_counts() -> None:
    record, cancellation = submission(JOB_ID), Cancellation(JOB_ID, START)
    event = report(JOB_ID, "started")

    assert upheld(record, cancellation, event, lost={0}) == [cancellation, event]


def test_a_refusal_that_comes_first_speaks_for_the_record_that_was_there_before() -> None:
    first, second = submission(JOB_ID), submission(JOB_ID, source_partition=1)

    assert upheld(refusal(second, first)) == [claim(first)]
    assert upheld(refusal(second, first), first) == [claim(first), first]
    assert upheld(second, refusal(second, first)) == [claim(first)]
    assert upheld(refusal(second, first), own={1}, lost={0}) == []


def test_a_second_record_that_is_no_valid_job_is_refused_like_any_other() -> None:
    first, second = submission(JOB_ID), submission(JOB_ID)
    invalid = report(JOB_ID, "failed", source=source(second), duplicate_of=source(first))

    assert upheld(invalid) == [claim(first)]


def test_refusals_of_several_records_speak_for_the_first() -> None:
    first, second, third = (submission(JOB_ID, source_partition=number) for number in range(3))
    refusals = [refusal(second, first), refusal(third, second)]

    assert upheld(*refusals) == upheld(*reversed(refusals)) == [claim(first)]


def test_a_refusal_of_an_old_worker_makes_no_record_the_first() -> None:
    first, second = submission(JOB_ID), submission(JOB_ID, source_partition=1)

    assert upheld(refusal(second)) == []
    assert upheld(refusal(second), first, second) == [first]


@pytest.mark.parametrize("names_first", [True, False])
def test_a_refused_record_that_is_the_job_already_ends_by_its_refusal(names_first: bool) -> None:
    """The ledger has read it before the other one."""
    first, second = submission(JOB_ID), submission(JOB_ID)
    refused = refusal(second, first if names_first else None)

    assert upheld(refused, own={0}, lost={1}) == [refused]


def test_a_refusal_of_an_old_worker_counts_for_a_record_of_the_same_poll() -> None:
    second = submission(JOB_ID)
    refused = refusal(second)

    assert upheld(refused, second) == [refused, second]
