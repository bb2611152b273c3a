"""Who finds room, and whose KV is reclaimed, by worked arithmetic."""

from tests.support.requests import batch, chat
from workers.policy.memory import Memory, lets_others_pass, victims_for_decodes, victims_for_prompt
from workers.policy.request import Prefill


def _in_progress(name: str, *, due_s: float, computed: int, remaining: int) -> Prefill:
    prefill = Prefill(batch(name, computed + remaining))
    prefill.advance(computed)
    prefill.due_s = due_s
    return prefill


SOON = _in_progress("soon", due_s=10.0, computed=100, remaining=50)
LATER = _in_progress("later", due_s=20.0, computed=200, remaining=50)
LATEST = _in_progress("latest", due_s=30.0, computed=300, remaining=50)
ALL = (LATER, SOON, LATEST)


def _chat(tokens: int, due_s: float = 15.0) -> Prefill:
    return Prefill(chat("chat", tokens, ttft_s=due_s))


def test_a_prompt_is_admitted_when_all_of_it_fits_beside_what_is_kept_for_others() -> None:
    memory = Memory(free_tokens=1_000, admissible_tokens=400)
    assert memory.admits(_chat(400), alone=False)
    assert not memory.admits(_chat(401), alone=False)


def test_alone_in_the_engine_a_prompt_may_have_all_memory() -> None:
    memory = Memory(free_tokens=1_000, admissible_tokens=400)
    assert memory.admits(_chat(1_000), alone=True)
    assert not memory.admits(_chat(1_001), alone=True)


def test_a_prompt_whose_kv_is_reclaimed_frees_it_and_what_was_kept_for_the_rest_of_it() -> None:
    assert Memory(10, -40).after_reclaim(LATER) == Memory(210, 210)


def test_decodes_take_from_the_least_urgent_until_they_have_room() -> None:
    assert victims_for_decodes(Memory(0, -100), ALL) == ()
    assert victims_for_decodes(Memory(-1, -100), ALL) == [LATEST]
    assert victims_for_decodes(Memory(-301, -500), ALL) == [LATEST, LATER]
    assert victims_for_decodes(Memory(-9_000, -9_000), ALL) == [LATEST, LATER, SOON]


def test_a_prompt_takes_only_from_those_that_are_due_later() -> None:
    memory = Memory(0, 0)
    assert victims_for_prompt(_chat(350), memory, ALL, alone=False) == [LATEST]
    assert victims_for_prompt(_chat(351), memory, ALL, alone=False) == [LATEST, LATER]
    assert victims_for_prompt(_chat(350, due_s=25.0), memory, ALL, alone=False) == [LATEST]


def test_a_prompt_takes_from_nobody_when_that_would_not_be_enough() -> None:
    assert victims_for_prompt(_chat(601), Memory(0, 0), ALL, alone=False) == ()
    assert victims_for_prompt(_chat(351, due_s=25.0), Memory(0, 0), ALL, alone=False) == ()
    assert victims_for_prompt(_chat(1), Memory(0, 0), [SOON], alone=False) == ()


def test_others_pass_a_prompt_without_room_for_the_first_half_of_its_time() -> None:
    prompt = Prefill(chat("chat", 10, arrival_s=100.0, ttft_s=6.0))
    assert lets_others_pass(prompt, 102.9)
    assert not lets_others_pass(prompt, 103.0)


def test_a_prompt_that_finds_room_takes_from_nobody() -> None:
    assert victims_for_prompt(_chat(100), Memory(500, 100), ALL, alone=False) == ()
    assert victims_for_prompt(_chat(500), Memory(500, 100), ALL, alone=True) == ()


def test_an_overdue_prompt_loses_its_kv_first_and_takes_nobody_elses() -> None:
    overdue = _in_progress("overdue", due_s=1.0, computed=100, remaining=50)
    overdue.is_overdue = True
    memory = Memory(0, 0)
    assert victims_for_prompt(_chat(150), memory, [*ALL, overdue], alone=False) == [overdue]
    assert victims_for_decodes(Memory(-1, 0), [*ALL, overdue]) == [overdue]
    assert victims_for_prompt(overdue, memory, ALL, alone=False) == ()
