"""Running decodes: counts, contexts, and the most urgent token, without a look at each."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import chat
from workers.policy.decodes import Decodes
from workers.policy.request import Request


def _request(name: str, tbt_s: float = 0.05) -> Request:
    return chat(name, 10, tbt_s=tbt_s)


def _add(decodes: Decodes, name: str, due_s: float, pace_s: float, context: int = 10) -> None:
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
