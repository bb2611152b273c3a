"""Topics take turns, and those that failed wait among themselves."""

from gateway.replies.turns import FAILING_SLOTS, WORKING_SLOTS, Turns
from gateway.replies.waiting import WaitingTopic


def topics(prefix: str, count: int, *, failing: bool = False) -> list[WaitingTopic]:
    return [WaitingTopic(f"{prefix}{number:03}", failing, due=True) for number in range(count)]


def test_topics_that_failed_leave_the_slots_to_the_others() -> None:
    turns = Turns()
    turns.offer([*topics("bad", 100, failing=True), *topics("good", 100)])

    started = turns.start()

    assert sum(name.startswith("good") for name in started) == WORKING_SLOTS
    assert sum(name.startswith("bad") for name in started) == FAILING_SLOTS


def test_a_turn_that_ends_begins_the_next_one_in_the_order_of_the_offer() -> None:
    turns = Turns()
    turns.offer(topics("good", WORKING_SLOTS + 2))
    started = turns.start()
    assert turns.start() == []

    turns.finish(started[3])

    assert turns.start() == [f"good{WORKING_SLOTS:03}"]
    assert not turns.wants_more


def test_a_topic_has_one_turn_at_a_time() -> None:
    turns = Turns()
    turns.offer(topics("good", 1))
    turns.offer(topics("good", 1))

    assert turns.start() == ["good000"]
    turns.offer([*topics("good", 1), *topics("good", 1, failing=True)])
    assert turns.start() == []
    assert turns.wants_more


def test_a_topic_that_is_not_due_has_no_turn() -> None:
    turns = Turns()
    turns.offer([WaitingTopic("later", failing=True, due=False)])

    assert turns.start() == []
