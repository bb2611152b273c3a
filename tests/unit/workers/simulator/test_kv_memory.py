"""The prefix cache of a replica: what is shared, counted once, and evicted."""

from hypothesis import given
from hypothesis import strategies as st

from workers.simulator.kv_memory import KvMemory


def _computed(memory: KvMemory, request_id: str, blocks: list[int], tokens: int) -> None:
    memory.computed(request_id, tokens - memory.start(request_id, blocks))


def test_a_sibling_finds_what_was_computed_and_holds_it_once() -> None:
    memory = KvMemory(1_000, block_tokens=10)
    _computed(memory, "a", [1, 2, 3], 35)
    assert memory.cached_tokens([1, 2, 9]) == 20
    assert memory.start("b", [1, 2, 9]) == 20
    memory.computed("b", 15)
    assert memory.held_tokens == 35 + 15


def test_of_siblings_that_compute_the_same_at_once_one_copy_stays() -> None:
    memory = KvMemory(1_000, block_tokens=10)
    assert memory.start("a", [1, 2]) == memory.start("b", [1, 2]) == 0
    memory.computed("a", 25)
    memory.computed("b", 25)
    assert memory.held_tokens == 20 + 5 + 5


def test_blocks_enter_the_cache_as_soon_as_they_are_whole() -> None:
    memory = KvMemory(1_000, block_tokens=10)
    memory.start("a", [1, 2])
    memory.computed("a", 9)
    assert memory.cached_tokens([1, 2]) == 0
    memory.computed("a", 2)
    assert memory.cached_tokens([1, 2]) == 10


def test_what_nobody_holds_is_free_and_stays_until_the_room_is_needed() -> None:
    memory = KvMemory(60, block_tokens=10)
    _computed(memory, "a", [1, 2], 20)
    memory.release("a")
    assert memory.free_tokens == 60
    _computed(memory, "b", [8, 9], 20)
    memory.release("b")
    assert memory.start("a again", [1]) == 10  # used now, so 2 is the least recently used
    _computed(memory, "c", [], 35)
    memory.evict()
    assert [memory.cached_tokens([block]) for block in (1, 2, 8, 9)] == [10, 0, 10, 0]


def test_a_prefix_outlives_what_follows_it() -> None:
    memory = KvMemory(40, block_tokens=10)
    _computed(memory, "a", [1, 2, 3], 30)
    memory.release("a")
    _computed(memory, "b", [], 25)
    memory.evict()
    assert memory.cached_tokens([1, 2, 3]) == 10


def test_what_was_generated_is_freed_with_its_request() -> None:
    memory = KvMemory(100, block_tokens=10)
    _computed(memory, "a", [], 10)
    memory.decoded(7)
    assert memory.held_tokens == 17
    memory.release("a", decoded_tokens=7)
    assert memory.held_tokens == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 25)), max_size=60))
def test_memory_is_neither_lost_nor_held_twice(steps: list[tuple[int, int, int]]) -> None:
    memory = KvMemory(200, block_tokens=10)
    computed: dict[str, int] = {}
    for who, family, tokens in steps:
        request_id, blocks = str(who), [10 * family + i for i in range(4)]
        if request_id not in computed:
            computed[request_id] = memory.start(request_id, blocks)
        elif tokens > 20:
            memory.release(request_id)
            del computed[request_id]
        elif memory.free_tokens >= tokens:
            memory.computed(request_id, tokens)
            computed[request_id] += tokens
        memory.evict()
        assert 0 <= memory.held_tokens <= sum(computed.values())
        assert memory.cached_tokens(blocks) <= 40
    for request_id in computed:
        memory.release(request_id)
    assert memory.held_tokens == 0
