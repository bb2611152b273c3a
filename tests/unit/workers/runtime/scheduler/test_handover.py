"""The part of a plan that SGLang is handed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.scheduler.handover import Handover, Planned, hand_over


def handed(*planned: Planned, in_progress: str | None = None, **changes: int | bool) -> Handover:
    options = {"can_park": True, "room_tokens": 1000, "page_tokens": 1} | changes
    return hand_over(planned, in_progress, **options)  # type: ignore[arg-type]


def test_prompts_that_wait_are_admitted_in_the_order_of_the_plan() -> None:
    plan = (Planned("a", 100, 100), Planned("b", 50, 700))
    assert handed(*plan) == Handover(order=("a", "b"), prefill_tokens=150)


def test_what_the_cache_has_by_now_goes_to_the_next_prompt() -> None:
    assert handed(Planned("a", 100, 20), Planned("b", 50, 700)) == Handover(("a", "b"), 150)


def test_what_the_cache_has_lost_is_taken_from_the_next_prompt() -> None:
    assert handed(Planned("a", 100, 400), Planned("b", 50, 700)) == Handover(("a",), 150)


def test_the_prompt_in_progress_continues_beside_whole_ones() -> None:
    plan = (Planned("chat", 60, 60), Planned("long", 140, 900))
    assert handed(*plan, in_progress="long") == Handover(("chat",), 200, 140)


def test_only_one_prompt_is_left_unfinished() -> None:
    """SGLang could not keep two: the chat, whose prefix was evicted, waits for the next plan."""
    plan = (Planned("chat", 60, 300), Planned("long", 140, 900))
    assert handed(*plan, in_progress="long") == Handover((), 140, 140)


def test_short_of_room_the_prompt_in_progress_takes_what_whole_ones_leave() -> None:
    plan = (Planned("chat", 60, 60), Planned("long", 140, 900))
    assert handed(*plan, in_progress="long", room_tokens=190) == Handover(("chat",), 190, 130)


def test_a_prompt_that_completes_leaves_room_for_an_unfinished_one() -> None:
    plan = (Planned("ending", 40, 40), Planned("next", 160, 900))
    assert handed(*plan, in_progress="ending") == Handover(("next",), 200, 40)


def test_a_prompt_in_progress_that_is_not_in_the_plan_is_parked() -> None:
    plan = (Planned("chat", 60, 60),)
    assert handed(*plan, in_progress="long") == Handover(("chat",), 60, park=True)


def test_a_prompt_that_cannot_be_parked_goes_first() -> None:
    plan = (Planned("chat", 60, 60),)
    assert handed(*plan, in_progress="long", can_park=False) == Handover((), 60, 60)


def test_an_empty_plan_computes_no_prompt() -> None:
    assert handed(in_progress="long") == Handover()


def test_the_engines_limit_holds() -> None:
    plan = (Planned("a", 900, 900), Planned("b", 500, 700))
    assert handed(*plan, room_tokens=500) == Handover(("a",), 500)


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=6),
    st.sampled_from([None, "r0", "r1", "other"]),
    st.booleans(),
    st.integers(-50, 600),
    st.sampled_from([1, 16, 64]),
)
def test_at_most_one_prompt_is_unfinished_and_all_fits(
    sizes: list[tuple[int, int]], in_progress: str | None, can_park: bool, room: int, page: int
) -> None:
    planned = [Planned(f"r{i}", *size) for i, size in enumerate(sizes)]
    found = hand_over(planned, in_progress, can_park=can_park, room_tokens=room, page_tokens=page)
    needs = {chunk.request_id: -(-chunk.remaining_tokens // page) * page for chunk in planned}
    left = found.prefill_tokens - found.in_progress_tokens
    unfinished = int(0 < found.in_progress_tokens < needs.get(str(in_progress), 10**9))
    for request_id in found.order:
        assert left > 0
        unfinished += needs[request_id] > left
        left = max(0, left - needs[request_id])
    assert unfinished <= 1
    assert left == 0
    assert found.prefill_tokens % page == 0
    assert in_progress not in found.order
    largest = max(needs.values(), default=0)
    assert found.prefill_tokens <= max(page, room, page + largest if in_progress else 0)


@pytest.mark.parametrize("page", [16, 64])
def test_chunks_are_whole_pages(page: int) -> None:
    found = handed(Planned("a", 100, 900), page_tokens=page)
    assert found == Handover(("a",), 100 // page * page)
