"""When first tokens of chats are due, and the tokens of answers that are awaited as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.decode_length import DecodeLengths
from workers.policy.pacing import PromptDue, Schedule, just_enough, prompt_due
from workers.policy.qos import RequestQos
from workers.policy.request import Prefill, Request
from workers.policy.settings import Settings, TokenTiming

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


# ---- chats


@pytest.mark.parametrize(
    ("timing", "generated", "due"),
    [
        (TokenTiming.PACED, 0, PromptDue(14.5, 16.0)),
        (TokenTiming.ENVELOPE, 0, PromptDue(14.5, 16.0)),
        (TokenTiming.GAPS, 0, PromptDue(16.0, 16.0)),
        (TokenTiming.PACED, 20, PromptDue(18.0, 18.0)),
    ],
)
def test_a_first_token_leaves_slack_where_later_tokens_can_use_it(
    timing: TokenTiming, generated: int, due: PromptDue
) -> None:
    """Of a TTFT of 6 s from 10 s on, a quarter; what lost its KV goes on as it was promised."""
    request = Request("a", RequestQos.interactive(10.0, ttft_s=6.0, tbt_s=0.1), 1_000)
    settings = Settings(token_timing=timing, ttft_reserve=0.25)
    prefill = Prefill.of_retracted(request, generated) if generated else Prefill(request)
    assert prompt_due(prefill, DecodeLengths(), settings) == due
