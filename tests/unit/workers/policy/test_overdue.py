"""Whose turn it is to be asked whether it can be met again."""

from workers.policy.overdue import OverdueQueue
from workers.policy.queue import Entry


def _queue(count: int) -> OverdueQueue:
    """Request n is due after n seconds."""
    queue = OverdueQueue()
    for number in range(count):
        queue.push(Entry(float(number), f"{number:02d}", 100.0, rank=number))
    return queue


def _turn(queue: OverdueQueue, now_s: float, count: int) -> list[int]:
    return [int(request_id) for request_id in queue.take_turns(now_s, count)]


def test_all_whose_due_times_have_not_passed_take_turns() -> None:
    queue = _queue(25)
    assert _turn(queue, 4.5, 10) == list(range(5, 15))
    assert _turn(queue, 4.5, 10) == list(range(15, 25))
    assert _turn(queue, 4.5, 10) == []
    assert _turn(queue, 6.5, 10) == list(range(7, 17))


def test_who_has_left_takes_no_turn_however_it_left() -> None:
    queue = _queue(4)
    assert _turn(queue, -1.0, 2) == [0, 1]
    for number in (1, 2):
        queue.remove(f"{number:02d}")
    assert _turn(queue, -1.0, 2) == [3]
    assert _turn(queue, -1.0, 2) == [0, 3]
    queue.remove_run(3, 0, 1)
    assert [_turn(queue, -1.0, 2) for _ in range(2)] == [[], [0]]
