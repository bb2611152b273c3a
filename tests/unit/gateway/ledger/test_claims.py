"""Which of a poll's entries count."""

from uuid import UUID, uuid4

from gateway.ledger.claims import Claims
from gateway.ledger.records import Cancellation, Entry
from tests.support.ledger import START, after, report, source, submission

JOB_ID = uuid4()


def upheld(*entries: Entry, lost: set[int] | None = None) -> list[Entry]:
    return list(Claims(entries).upheld(lost or set()))


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
