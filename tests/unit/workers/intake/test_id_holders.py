"""A record is refused for its id only if another one with that id was certainly there before."""

from uuid import UUID, uuid4

import pytest

from tests.support.records import TOPICS, FakeRecord
from workers.intake import id_holders
from workers.intake.id_holders import IdHolders

JOB_ID = uuid4()
NOW_S = 1_000.0
FIRST = FakeRecord(offset=7, timestamp=990_000)


@pytest.fixture
def ids() -> IdHolders:
    """With a record that was read at NOW_S."""
    ids = IdHolders(in_flight=lambda _: False)
    assert ids.claim(JOB_ID, FIRST, NOW_S) is None
    return ids


def is_refused(ids: IdHolders, record: FakeRecord, now_s: float = NOW_S + 60) -> bool:
    return ids.claim(JOB_ID, record, now_s) is not None


def test_the_same_record_may_come_again(ids: IdHolders) -> None:
    assert not is_refused(ids, FIRST)


def test_a_later_record_of_its_partition_is_refused(ids: IdHolders) -> None:
    assert is_refused(ids, FakeRecord(offset=8, timestamp=0))


def test_an_earlier_record_of_its_partition_takes_its_place(ids: IdHolders) -> None:
    """It was with another worker until now."""
    assert not is_refused(ids, FakeRecord(offset=6))
    assert is_refused(ids, FIRST)


def test_a_record_that_was_published_after_the_first_was_read_is_refused(ids: IdHolders) -> None:
    assert is_refused(ids, FakeRecord(topic=TOPICS.batch.name, timestamp=1_000_001))


@pytest.mark.parametrize("timestamp", [999_000, 0, -1])
def test_a_record_that_may_have_waited_in_its_queue_is_not(ids: IdHolders, timestamp: int) -> None:
    waited = FakeRecord(topic=TOPICS.batch.name, offset=1, timestamp=timestamp)

    assert not is_refused(ids, waited)
    assert not is_refused(ids, FIRST)


def test_the_oldest_ids_are_forgotten_unless_they_are_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(id_holders, "MAX_IDS", 3)
    running = UUID(int=1)
    ids = IdHolders(in_flight=lambda job_id: job_id == running)
    for number in range(1, 30):
        ids.claim(UUID(int=number), FIRST, NOW_S)

    later = FakeRecord(offset=8)
    remembered = [n for n in range(1, 30) if ids.claim(UUID(int=n), later, NOW_S) is not None]
    assert running.int in remembered
    assert len(ids) == 3


def test_what_is_in_flight_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_holders, "MAX_IDS", 3)
    ids = IdHolders(in_flight=lambda _: True)
    for number in range(30):
        ids.claim(UUID(int=number), FIRST, NOW_S)

    assert len(ids) == 3
