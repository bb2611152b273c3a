"""Where a request's time in the engine goes."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.account import Account, EngineTimes
from workers.policy.interference import Interference


def decode_s(times: EngineTimes) -> float:
    assert times.first_token_s is not None
    return times.ended_s - times.first_token_s - times.retracted_s


def test_a_prompt_of_two_chunks_waits_is_computed_and_decodes() -> None:
    account = Account(10.0, Interference())
    account.launched(12.0)
    account.launched(12.5)
    account.generated(1, 13.0)
    account.generated(2, 13.2)

    times = account.ended(14.0)

    assert times == EngineTimes(10.0, 2.0, 1.0, 0.0, 13.0, 0.0, 14.0)
    assert decode_s(times) == 1.0


def test_a_parked_prompt_computes_until_others_run_and_is_parked_until_it_is_resumed() -> None:
    account = Account(0.0, Interference())
    account.launched(1.0)
    account.parked(1.4)
    account.left_out(1.5)
    account.launched(4.0)
    account.generated(1, 4.5)

    assert account.ended(5.0) == EngineTimes(0.0, 1.0, 1.0, 2.5, 4.5, 0.0, 5.0)


def test_a_prompt_that_is_left_out_without_being_parked_waits() -> None:
    account = Account(0.0, Interference())
    account.launched(1.0)
    account.left_out(1.5)
    account.parked(2.0)
    account.launched(3.0)

    assert account.ended(3.5) == EngineTimes(0.0, 1.5, 1.0, 1.0, None, 0.0, 3.5)


def test_computing_again_what_was_taken_back_counts_as_retracted() -> None:
    account = Account(0.0, Interference())
    account.launched(0.0)
    account.generated(1, 1.0)
    account.retracted(5, 2.0)
    account.launched(4.0)
    account.generated(5, 4.2)
    account.left_out(4.3)
    account.generated(6, 5.0)

    times = account.ended(6.0)

    assert times == EngineTimes(0.0, 0.0, 1.0, 0.0, 1.0, 3.0, 6.0, gap_s=3.0, gap_cause="retracted")
    assert decode_s(times) == 2.0


def test_a_request_that_never_runs_waits_to_its_end() -> None:
    assert Account(3.0, Interference()).ended(7.0) == EngineTimes(
        3.0, 4.0, 0.0, 0.0, None, 0.0, 7.0
    )


CALLS = {
    "launched": Account.launched,
    "left_out": Account.left_out,
    "parked": Account.parked,
}
steps = st.tuples(
    st.floats(-0.1, 10),
    st.sampled_from([*CALLS, "generated", "retracted"]),
    st.integers(0, 5),
)


@given(st.lists(steps, max_size=30))
def test_whatever_happens_the_parts_are_the_whole(made: list[tuple[float, str, int]]) -> None:
    account = Account(100.0, Interference())
    times_s = accumulate((wait_s for wait_s, _, _ in made), initial=100.0)
    next(times_s)
    now_s = 100.0
    for now_s, (_, name, tokens) in zip(times_s, made, strict=True):
        if name in CALLS:
            CALLS[name](account, now_s)
        elif name == "generated":
            account.generated(tokens, now_s)
        else:
            account.retracted(tokens, now_s)

    times = account.ended(now_s)

    before_s = times.waiting_s + times.computing_s + times.parked_s
    first_s = times.ended_s if times.first_token_s is None else times.first_token_s
    assert min(times.waiting_s, times.computing_s, times.parked_s, times.retracted_s) >= 0
    assert before_s == pytest.approx(first_s - times.entered_s)
    assert times.retracted_s <= times.ended_s - first_s + 1e-9
    assert times.ended_s >= now_s
