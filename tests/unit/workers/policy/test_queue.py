"""The order of the waiting prompts."""

from hypothesis import given
from hypothesis import strategies as st

from workers.policy.lookahead import NO_CUTOFF
from workers.policy.queue import Entry, WaitingQueue, rank_of


def test_low_importance_yields_before_any_size_of_high_importance() -> None:
    tiny = rank_of("a", 10, important=False, size_bias=1.0)
    huge = rank_of("b", 1e6, important=True, size_bias=1.0)
    assert tiny > huge


def test_larger_requests_yield_first() -> None:
    ranks = [rank_of("a", work, important=True, size_bias=1.0) for work in (64, 640, 6_400, 64_000)]
    assert ranks == sorted(set(ranks))


def test_without_size_bias_only_chance_decides() -> None:
    small = {rank_of(str(i), 64, important=True, size_bias=0.0) for i in range(200)}
    large = {rank_of(str(i), 64_000, important=True, size_bias=0.0) for i in range(200)}
    assert small == large


def test_up_to_the_cutoff_the_earliest_due_goes_first_and_beyond_it_the_lowest_rank() -> None:
    queue = WaitingQueue()
    queue.push(Entry(5.0, "late", 100.0, 1))
    queue.push(Entry(1.0, "soon but large", 9_000.0, 8))
    queue.push(Entry(0.5, "soonest and larger", 20_000.0, 9))
    assert _names(queue, cutoff=3) == ["late", "soon but large", "soonest and larger"]
    assert _names(queue, cutoff=NO_CUTOFF) == ["soonest and larger", "soon but large", "late"]


def _names(queue: WaitingQueue, cutoff: int) -> list[str]:
    names = []
    taken = []
    while (entry := queue.head(cutoff=cutoff)) is not None:
        names.append(entry.request_id)
        taken.append(queue.remove(entry.request_id))
    for entry in taken:
        assert entry is not None
        queue.push(entry)
    return names


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1, 1e5), st.booleans()), max_size=40),
    st.floats(0, 0.1),
)
def test_the_head_is_the_smallest_key_of_those_still_there(
    items: list[tuple[float, float, bool]], weight_s: float
) -> None:
    queue = WaitingQueue()
    kept: dict[str, Entry] = {}
    for index, (due_s, work, remove) in enumerate(items):
        name = f"{index:03d}"
        rank = rank_of(name, work, important=True, size_bias=1.0)
        queue.push(Entry(due_s, name, work, rank))
        kept[name] = Entry(due_s, name, work, rank)
        if remove:
            queue.remove(name)
            del kept[name]
    head = queue.head(cutoff=NO_CUTOFF, weight_s=weight_s)
    if not kept:
        assert head is None
        return
    # Within a rank the earliest due stands for all: at most a fifth of the work apart.
    assert head is not None
    best = min(entry.due_s + weight_s * entry.work for entry in kept.values())
    assert head.due_s + weight_s * head.work <= best + 0.2 * weight_s * head.work + 64 * weight_s
    assert len(queue) == len(kept)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 12), st.booleans()), max_size=60),
    st.integers(0, 13),
    st.integers(0, 20),
)
def test_the_first_are_in_order_and_still_there(
    items: list[tuple[float, int, bool]], cutoff: int, count: int
) -> None:
    queue = WaitingQueue()
    left: list[Entry] = []
    for index, (due_s, rank, remove) in enumerate(items):
        entry = Entry(due_s, f"{index:03d}", 100.0, rank)
        queue.push(entry)
        if remove:
            queue.remove(entry.request_id)
        else:
            left.append(entry)
    left.sort(key=lambda e: (e.rank if e.rank > cutoff else -1, e.due_s, e.request_id))
    found = queue.first(count, cutoff=cutoff)
    assert found == left[: len(found)]
    if len(left) == len(items):
        assert len(found) == min(count, len(left))
