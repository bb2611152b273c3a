"""The queue of the waiting prompts."""

from hypothesis import given
from hypothesis import strategies as st

from workers.policy.queue import Entry, WaitingQueue


def test_what_was_taken_out_leaves_nothing_behind_what_waits_on() -> None:
    queue = WaitingQueue()
    queue.push(Entry(0.0, "first", 100.0, 1))
    for index in range(1_000):
        queue.push(Entry(1.0 + index, f"{index}", 100.0, index % 7))
        queue.remove(f"{index}")
    queue.remove("unknown")
    assert queue._ranks == {1: [Entry(0.0, "first", 100.0, 1)]}
    assert len(queue) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_each_rank_is_sorted_and_has_what_was_pushed_last(
    steps: list[tuple[int, int, int]],
) -> None:
    queue = WaitingQueue()
    kept: dict[str, Entry] = {}
    for number, due_s, rank in steps:
        name = str(number)
        if due_s == 0:
            assert queue.remove(name) == kept.pop(name, None)
        else:
            kept[name] = Entry(due_s, name, 100.0, rank)
            queue.push(kept[name])
    assert queue._entries == kept
    for rank in range(4):
        assert list(queue.of_rank(rank)) == sorted(e for e in kept.values() if e.rank == rank)
    assert sorted(queue.firsts()) == sorted(queue.of_rank(rank)[0] for rank in queue._ranks)


def test_a_run_of_a_rank_is_taken_at_once() -> None:
    queue = WaitingQueue()
    for index in range(5):
        queue.push(Entry(float(index), f"{index}", 100.0, 3))
    assert [entry.request_id for entry in queue.remove_run(3, 1, 3)] == ["1", "2"]
    assert [entry.request_id for entry in queue.of_rank(3)] == ["0", "3", "4"]
    assert "1" not in queue
