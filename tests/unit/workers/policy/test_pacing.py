"""When tokens are due of an answer that somebody waits for as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.decode_length import DecodeLengths
from workers.policy.pacing import Schedule, just_enough
from workers.policy.qos import RequestQos
from workers.policy.request import Request
from workers.policy.settings import Settings

_SETTINGS = Settings()
_LONG_AGO = 500


def _request(ttlt_s: float) -> Request:
    return Request("a", RequestQos.deadline(0.0, ttlt_s=ttlt_s), 1_000)


def _always(tokens: int) -> DecodeLengths:
    lengths = DecodeLengths()
    for _ in range(10 * _LONG_AGO):
        lengths.ended(_request(10.0), tokens)
    return lengths


def _schedule(
    ttlt_s: float, lengths: DecodeLengths, generated: int = 1, pressure: float = 1.0
) -> Schedule:
    return just_enough(_request(ttlt_s), generated, 0.0, pressure, lengths, _SETTINGS)


def test_the_pace_is_what_meets_the_deadline() -> None:
    lengths = _always(201)
    schedule = _schedule(14.0, lengths)
    to_come = lengths.high(_request(14.0), 1) - 1
    assert to_come == pytest.approx(200, rel=0.1)
    assert 14.0 / to_come / 1.2 <= schedule.pace_s <= 14.0 / to_come
    assert schedule.next_due_s == pytest.approx(14.0 - (to_come - 1) * schedule.pace_s)


def test_no_answer_makes_iterations_shorter_than_it_was_planned_with() -> None:
    """200 tokens in 6 s would be 30 ms for each: it goes on as batch does."""
    assert _schedule(6.0, _always(201)).pace_s == _SETTINGS.batch_tbt_s


def test_an_answer_that_may_be_short_keeps_its_pace_while_no_prompt_suffers() -> None:
    """5 s are 100 tokens of 50 ms: of answers like these, 256 on average, a third are shorter."""
    lengths, pace_s = DecodeLengths(), _SETTINGS.deadline_tbt_s
    assert _schedule(5.0, lengths, pressure=0.0).pace_s == pace_s
    assert _schedule(5.0, lengths, pressure=0.6).pace_s == _SETTINGS.batch_tbt_s
    assert _schedule(2.0, lengths, pressure=0.0).pace_s == _SETTINGS.batch_tbt_s


@given(ttlt_s=st.floats(0.1, 100.0), tokens=st.integers(1, 2_000), generated=st.integers(1, 3_000))
def test_a_pace_is_between_that_of_deadlines_and_that_of_batch(
    ttlt_s: float, tokens: int, generated: int
) -> None:
    lengths = DecodeLengths()
    lengths.ended(_request(ttlt_s), tokens)
    schedule = _schedule(ttlt_s, lengths, generated)
    # A pace is rounded down by less than a step of 20%.
    assert _SETTINGS.deadline_tbt_s / 1.2 <= schedule.pace_s <= _SETTINGS.batch_tbt_s
