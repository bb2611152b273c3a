"""Who is next, on requests made by hand."""

import pytest

from tests.support.requests import batch
from workers.policy.queue import Entry
from workers.policy.request import Prefill
from workers.policy.selection import Order, choose, is_too_late, most_urgent_first, order_of
from workers.policy.settings import Overload, Settings

WAITING = Entry(5.0, "waiting", 100.0, 3)
OVERDUE = Entry(0.5, "overdue", 100.0, 0)


def _in_progress(name: str, due_s: float, tokens: int = 1_000, *, overdue: bool = False) -> Prefill:
    prefill = Prefill(batch(name, tokens))
    prefill.due_s = due_s
    prefill.is_overdue = overdue
    return prefill


def _tokens(prefill: Prefill) -> float:
    return prefill.remaining_tokens


def _choose(
    *in_progress: Prefill,
    waiting: Entry | None = WAITING,
    order: Order | None = None,
    park: bool = True,
) -> str | None:
    order = order or Order()
    running = next(iter(most_urgent_first(in_progress, order, _tokens)), None)
    return choose(running, waiting, OVERDUE, order, _tokens, park=park)


def test_the_more_memory_limits_the_more_the_small_go_first() -> None:
    settings = Settings(memory_weight_s=0.02)
    assert order_of(settings, 40, 0.0, memory_bound=0.0) == Order(40, 0.0)
    assert order_of(settings, 40, 0.0, memory_bound=0.5) == Order(40, 0.01)


def test_the_earliest_due_goes_first_and_parks_what_is_in_progress() -> None:
    assert _choose(_in_progress("running", 6.0)) == "waiting"


def test_a_prompt_in_progress_that_is_as_urgent_goes_on() -> None:
    assert _choose(_in_progress("running", 5.0)) == "running"


def test_the_most_urgent_of_those_in_progress_goes_on_and_ties_end_in_the_id() -> None:
    prompts = [_in_progress("c", 4.0), _in_progress("b", 3.0), _in_progress("a", 3.0)]
    assert _choose(*prompts) == "a"


def test_without_parking_what_is_in_progress_goes_on() -> None:
    assert _choose(_in_progress("running", 6.0), park=False) == "running"


def test_beyond_the_cutoff_a_waiting_prompt_parks_nothing() -> None:
    assert _choose(_in_progress("running", 6.0), order=Order(cutoff=2)) == "running"
    assert _choose(order=Order(cutoff=2)) == "waiting"


def test_an_overdue_prompt_is_next_only_when_nothing_else_is_left() -> None:
    assert _choose(_in_progress("running", 6.0), waiting=None) == "running"
    assert _choose(waiting=None) == "overdue"
    assert choose(None, None, None, Order(), _tokens, park=True) is None


def test_an_overdue_prompt_in_progress_yields_to_all_but_other_overdue_ones() -> None:
    late, other = _in_progress("late", 1.0, overdue=True), _in_progress("other", 9.0)
    assert _choose(late, other, waiting=None) == "other"
    assert _choose(late) == "waiting"
    assert _choose(late, order=Order(cutoff=2)) == "waiting"
    assert _choose(late, park=False) == "late"
    assert _choose(late, waiting=None) == "late"


def test_the_hybrid_key_lets_short_prompts_go_first() -> None:
    long = _in_progress("long", 4.0, tokens=1_000)
    # 4 s + 1,000 * 10 ms against 5 s + 100 * 10 ms.
    order = Order(srpf_weight_s=0.01)
    assert _choose(long, order=order) == "waiting"


@pytest.mark.parametrize(
    ("backlog_s", "weight_s"), [(0.0, 0.008), (60.0, 0.008), (160.0, 0.05), (900.0, 0.1)]
)
def test_the_hybrid_weight_follows_the_backlog(backlog_s: float, weight_s: float) -> None:
    order = order_of(Settings(overload=Overload.HYBRID), 7, backlog_s)
    assert order == Order(srpf_weight_s=pytest.approx(weight_s))


def test_only_the_cutoff_looks_at_ranks_and_edf_at_nothing_else() -> None:
    assert order_of(Settings(), 7, 900.0) == Order(cutoff=7)
    assert order_of(Settings(overload=Overload.NONE), 7, 900.0) == Order()


def test_a_prompt_is_too_late_when_it_could_not_be_met_even_alone() -> None:
    # 3,000 tokens of 1 ms from 2 s on; due at 5 s.
    assert not is_too_late(5.0, 3_000, 2.0, 0.001, Settings())
    assert is_too_late(5.0, 3_001, 2.0, 0.001, Settings())
    assert not is_too_late(5.0, 3_001, 2.0, 0.001, Settings(overload=Overload.NONE))
