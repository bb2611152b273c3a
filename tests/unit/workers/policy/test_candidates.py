"""The order in which one plan considers what waits."""

from hypothesis import given
from hypothesis import strategies as st

from workers.policy.candidates import Candidates
from workers.policy.queue import Entry, WaitingQueue
from workers.policy.ranking import rank_of
from workers.policy.selection import Order

Examined = list[str]


def _queue(*entries: Entry) -> WaitingQueue:
    queue = WaitingQueue()
    for entry in entries:
        queue.push(entry)
    return queue


def _candidates(
    queue: WaitingQueue,
    order: Order | None = None,
    hopeless: frozenset[str] = frozenset(),
    limit: int = 1_000,
) -> tuple[Candidates, list[Entry], Examined]:
    """With what is set aside, and the ids of all that were asked about."""
    aside: list[Entry] = []
    examined: Examined = []

    def gives_up(entry: Entry) -> bool:
        examined.append(entry.request_id)
        return entry.request_id in hopeless

    candidates = Candidates(
        queue, order or Order(), gives_up=gives_up, set_aside=aside.append, limit=limit
    )
    return candidates, aside, examined


def _names(candidates: Candidates) -> list[str]:
    names = []
    while (entry := candidates.head()) is not None:
        names.append(entry.request_id)
        candidates.skip()
    return names


def test_up_to_the_cutoff_the_earliest_due_goes_first_and_beyond_it_the_lowest_rank() -> None:
    queue = _queue(
        Entry(5.0, "late", 100.0, 1),
        Entry(1.0, "soon but large", 9_000.0, 8),
        Entry(0.5, "soonest and larger", 20_000.0, 9),
    )
    ordered, _, _ = _candidates(queue, Order(cutoff=3))
    assert _names(ordered) == ["late", "soon but large", "soonest and larger"]
    ordered, _, _ = _candidates(queue)
    assert _names(ordered) == ["soonest and larger", "soon but large", "late"]
    assert len(queue) == 3


def test_what_leaves_the_queue_meanwhile_is_no_candidate() -> None:
    queue = _queue(*(Entry(float(n), f"{n}", 100.0, n % 2) for n in range(6)))
    candidates, _, _ = _candidates(queue)
    for name in ("0", "1", "3"):
        queue.remove(name)
    assert _names(candidates) == ["2", "4", "5"]


def test_what_is_given_up_is_set_aside_and_costs_no_turn() -> None:
    queue = _queue(*(Entry(float(n), f"{n}", 100.0, 1) for n in range(5)))
    candidates, aside, _ = _candidates(queue, hopeless=frozenset("013"))
    assert _names(candidates) == ["2", "4"]
    assert [entry.request_id for entry in aside] == ["0", "1", "3"]
    assert [entry.request_id for entry in queue.of_rank(1)] == ["2", "4"]


def test_a_rank_with_more_to_give_up_than_the_limit_does_not_hold_up_the_others() -> None:
    hopeless = [Entry(float(n), f"{n:04d}", 100.0, 1) for n in range(2_000)]
    queue = _queue(*hopeless, Entry(9_999.0, "same rank", 100.0, 1), Entry(1e6, "other", 9e9, 7))
    names = frozenset(entry.request_id for entry in hopeless)
    for plan in range(4):
        candidates, aside, examined = _candidates(queue, hopeless=names, limit=500)
        head = candidates.head()
        assert head is not None
        assert head.request_id == ("same rank" if plan == 3 else "other")
        assert len(aside) == 500
        assert len(examined) <= 510
    assert [entry.request_id for entry in queue.of_rank(1)] == ["same rank"]


def test_a_head_is_found_without_a_look_at_the_rest() -> None:
    queue = _queue(*(Entry(float(n), f"{n:05d}", 100.0, n % 10) for n in range(10_000)))
    candidates, _, examined = _candidates(queue)
    assert [_next(candidates) for _ in range(3)] == ["00000", "00001", "00002"]
    assert examined == ["00000", "00001", "00002"]


def _next(candidates: Candidates) -> str:
    head = candidates.head()
    assert head is not None
    candidates.skip()
    return head.request_id


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1, 1e5), st.booleans()), max_size=40),
    st.floats(0, 0.1),
)
def test_the_head_is_the_smallest_key_of_those_still_there(
    items: list[tuple[float, float, bool]], weight_s: float
) -> None:
    queue = WaitingQueue()
    kept: list[Entry] = []
    for index, (due_s, work, remove) in enumerate(items):
        name = f"{index:03d}"
        entry = Entry(due_s, name, work, rank_of(name, work))
        queue.push(entry)
        if remove:
            queue.remove(name)
        else:
            kept.append(entry)
    candidates, _, _ = _candidates(queue, Order(srpf_weight_s=weight_s))
    head = candidates.head()
    assert (head is None) == (not kept)
    if head is not None:
        # Within a rank the earliest due stands for all: at most a fifth of the work apart.
        best = min(entry.due_s + weight_s * entry.work for entry in kept)
        assert head.due_s + weight_s * head.work <= best + weight_s * (0.2 * head.work + 64)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9), st.booleans()), max_size=60),
    st.integers(0, 9),
    st.integers(0, 20),
)
def test_every_request_is_a_candidate_or_set_aside_once_or_left_for_later(
    items: list[tuple[float, int, bool]], cutoff: int, limit: int
) -> None:
    """Compared with one look at everything, in order."""
    entries = [
        Entry(due_s, f"{index:02d}", 100.0, rank) for index, (due_s, rank, _) in enumerate(items)
    ]
    hopeless = frozenset(f"{index:02d}" for index, item in enumerate(items) if item[2])
    queue = _queue(*entries)
    candidates, aside, _ = _candidates(queue, Order(cutoff), hopeless, limit)
    names = _names(candidates)
    gone = [entry.request_id for entry in aside]
    assert len(gone) == min(limit, len(gone)) == len(set(gone))
    assert set(gone) <= hopeless
    assert sorted([*gone, *queue._entries]) == sorted(entry.request_id for entry in entries)
    expected = sorted(
        (entry for entry in entries if entry.request_id not in hopeless),
        key=lambda e: (e.rank if e.rank > cutoff else 0, e.due_s, e.request_id),
    )
    if limit >= len(hopeless):
        assert names == [entry.request_id for entry in expected]
        assert set(gone) == hopeless
    else:
        considered = [entry.request_id for entry in expected if entry.request_id in set(names)]
        assert names == considered
