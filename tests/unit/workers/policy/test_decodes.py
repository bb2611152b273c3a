"""Running decodes: counts, contexts, and the most urgent token, without a look at each."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import chat
from workers.policy.decodes import Decodes
from workers.policy.request import Request


def _request(name: str, tbt_s: float = 0.05) -> Request:
    return chat(name, 10, tbt_s=tbt_s)


def _add(
    decodes: Decodes, name: str, due_s: float | None, pace_s: float, context: int = 10
) -> None:
    decodes.add(
        _request(name, pace_s),
        next_due_s=due_s,
        pace_s=pace_s,
        context_tokens=context,
        generated_tokens=1,
    )


def test_nothing_is_due_without_decodes() -> None:
    assert Decodes().most_urgent() is None
    assert Decodes().next_due_s() == math.inf


def test_each_iteration_adds_a_token_to_every_context_and_moves_every_due_time() -> None:
    decodes = Decodes()
    _add(decodes, "chat", due_s=1.0, pace_s=0.05, context=100)
    decodes.advance()
    _add(decodes, "batch", due_s=1.2, pace_s=0.1, context=200)
    decodes.advance()
    assert decodes.context_tokens == 100 + 2 + 200 + 1
    # chat: 1.0 + 2 * 0.05, batch: 1.2 + 0.1
    assert decodes.next_due_s() == 1.1


def test_a_removed_decode_takes_its_context_along_and_tells_its_tokens() -> None:
    decodes = Decodes()
    _add(decodes, "chat", due_s=1.0, pace_s=0.05, context=100)
    decodes.advance()
    request, generated = decodes.remove("chat")
    assert (request.request_id, generated) == ("chat", 2)
    assert decodes.context_tokens == 0
    assert decodes.next_due_s() == math.inf


def test_a_late_token_moves_the_rest_of_its_schedule_back() -> None:
    decodes = Decodes()
    _add(decodes, "chat", due_s=1.0, pace_s=0.05)
    decodes.advance()
    decodes.shift_late(1.3)  # the token due at 1.0
    assert math.isclose(decodes.next_due_s(), 1.35)


def test_a_schedule_moves_once_for_a_late_token_whatever_rounding_does_to_it() -> None:
    """In floating point `(end - b) + b` may be less than `end`, and so be late again."""
    decodes = Decodes()
    for number in range(1, 200):
        _add(decodes, str(number), due_s=0.0, pace_s=60.0)
        decodes.advance()
        decodes.shift_late(0.1 * number)
    assert math.isclose(decodes.next_due_s(), 0.1 * 199 + 60)


@pytest.mark.parametrize("pace_s", [0.05, 60.0, 1e6, 1e12, 1e300])
@pytest.mark.parametrize("iterations", [3, 10**6, 10**9, 10**12])
def test_a_late_schedule_moves_to_the_end_of_its_iteration_however_long_the_engine_has_run(
    pace_s: float, iterations: int
) -> None:
    """Iterations times pace may be far larger than any time on the clock."""
    decodes = Decodes()
    decodes._iteration = iterations
    for name in ("a", "b"):
        _add(decodes, name, due_s=100.0, pace_s=pace_s)
    decodes.advance()
    decodes.shift_late(200.0)
    assert math.isclose(decodes.next_due_s(), 200.0 + min(pace_s, 3_600.0), rel_tol=1e-12)


def test_what_has_ended_leaves_nothing_behind_a_decode_that_goes_on() -> None:
    decodes = Decodes()
    _add(decodes, "long", due_s=0.0, pace_s=0.05)
    for number in range(1_000):
        _add(decodes, str(number), due_s=1.0 + number, pace_s=0.05)
        decodes.remove(str(number))
    assert len(decodes._cadences[0.05]) == len(decodes._cadences[0.05]._tiers) == 1


def test_a_pace_is_forgotten_with_the_last_decode_that_has_it() -> None:
    decodes = Decodes()
    for number in range(100):
        _add(decodes, str(number), due_s=100.0 - number, pace_s=0.05 + number // 2)
    for number in range(100):
        decodes.advance()
        decodes.shift_late(float(number))
        decodes.remove(str(number))
        assert len(decodes._cadences) == (99 - number + 1) // 2


def test_a_decode_that_comes_back_at_another_pace_leaves_nothing_at_its_first() -> None:
    decodes = Decodes()
    for name in ("first", "returned"):
        _add(decodes, name, due_s=None, pace_s=0.05)
    decodes.remove("returned")
    _add(decodes, "returned", due_s=None, pace_s=0.1)
    decodes.remove("first")
    decodes.remove("returned")
    assert decodes.most_urgent() is None


def test_decodes_that_were_late_together_are_moved_together() -> None:
    decodes = Decodes()
    for number in range(100):
        _add(decodes, f"{number:02d}", due_s=1.0 + number / 1_000, pace_s=0.05)
    decodes.advance()
    decodes.shift_late(2.0)
    (cadence,) = decodes._cadences.values()
    assert (len(cadence), len(cadence._tiers)) == (100, 1)
    decodes.remove("00")
    assert math.isclose(decodes.next_due_s(), 2.05)


def test_an_early_token_leaves_the_schedule_alone() -> None:
    decodes = Decodes()
    _add(decodes, "chat", due_s=1.0, pace_s=0.05)
    decodes.advance()
    decodes.shift_late(0.9)
    assert math.isclose(decodes.next_due_s(), 1.05)


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([0.05, 0.1, 0.4])), max_size=30))
def test_the_most_urgent_token_is_the_minimum_over_all(items: list[tuple[float, float]]) -> None:
    decodes = Decodes()
    dues: list[list[float]] = []
    for index, (due_s, pace_s) in enumerate(items):
        _add(decodes, str(index), due_s, pace_s)
        dues.append([due_s, pace_s])
        decodes.advance()
        for due in dues:
            due[0] += due[1]
    expected = min((due for due, _ in dues), default=math.inf)
    assert math.isclose(decodes.next_due_s(), expected, abs_tol=1e-6)


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "remove", "late", "step"]),
        st.floats(0, 3),
        st.sampled_from([0.05, 0.1, 0.4]),
    ),
    max_size=60,
)


@given(actions)
def test_schedules_are_those_of_decodes_that_are_looked_at_one_by_one(
    steps: list[tuple[str, float, float]],
) -> None:
    decodes = Decodes()
    dues: dict[str, tuple[float, float]] = {}
    now_s = 0.0
    for index, (action, seconds, pace_s) in enumerate(steps):
        if action == "add":
            due_s = now_s + seconds
            _add(decodes, str(index), due_s, pace_s)
            dues[str(index)] = (due_s, pace_s)
        elif action == "remove" and dues:
            gone = sorted(dues)[index % len(dues)]
            decodes.remove(gone)
            del dues[gone]
        elif action == "step":
            decodes.clock_stepped(seconds)
            now_s += seconds
            dues = {name: (due + seconds, pace) for name, (due, pace) in dues.items()}
        elif action == "late":
            now_s += seconds / 10
            decodes.advance()
            decodes.shift_late(now_s)
            dues = {name: (max(due, now_s) + pace, pace) for name, (due, pace) in dues.items()}
        expected = min((due for due, _ in dues.values()), default=math.inf)
        assert math.isclose(decodes.next_due_s(), expected, abs_tol=1e-6)
    assert len(decodes) == len(dues)
