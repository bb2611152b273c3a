"""When chats are due and shown, and the tokens of answers that have to be complete in time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, PLENTY, batch, chat, serve
from workers.policy.decode_length import DecodeLengths
from workers.policy.pacing import (
    Circumstances,
    PromptDue,
    Schedule,
    hold_share,
    just_enough,
    prompt_due,
)
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
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
    ttlt_s: float,
    lengths: DecodeLengths,
    generated: int = 1,
    pressure: float = 1.0,
    shortest_s: float = 0.05,
) -> Schedule:
    circumstances = Circumstances(pressure, pressure, 0.0, shortest_s)
    return just_enough(_request(ttlt_s), generated, 0.0, circumstances, lengths, _SETTINGS)


def test_the_pace_is_what_meets_the_deadline() -> None:
    lengths = _always(201)
    schedule = _schedule(14.0, lengths)
    to_come = lengths.high(_request(14.0), 1) - 1
    assert to_come == pytest.approx(200, rel=0.1)
    assert 14.0 / to_come / 1.2 <= schedule.pace_s <= 14.0 / to_come
    assert schedule.next_due_s == pytest.approx(14.0 - (to_come - 1) * schedule.pace_s)


def test_no_answer_makes_iterations_shorter_than_is_granted() -> None:
    """200 tokens in 6 s would be 30 ms for each: it goes on like one that has time."""
    lengths = _always(201)
    assert _schedule(6.0, lengths).pace_s == _SETTINGS.batch_tbt_s
    assert _schedule(6.0, lengths, shortest_s=0.02).pace_s < 0.03


def test_an_answer_that_may_be_short_keeps_its_pace_while_no_prompt_suffers() -> None:
    """5 s are 100 tokens of 50 ms: of answers like these, 256 on average, a third are shorter."""
    lengths = DecodeLengths()
    assert 0.05 / 1.2 <= _schedule(5.0, lengths, pressure=0.0).pace_s <= 0.05
    assert _schedule(5.0, lengths, pressure=0.6).pace_s == _SETTINGS.batch_tbt_s
    assert _schedule(2.0, lengths, pressure=0.0).pace_s == _SETTINGS.batch_tbt_s


@given(
    ttlt_s=st.floats(0.1, 100.0),
    tokens=st.integers(1, 2_000),
    generated=st.integers(1, 3_000),
    pressure=st.floats(0.0, 2.0),
    shortest_s=st.floats(0.005, 0.5),
)
def test_a_pace_is_between_the_shortest_and_that_of_batch(
    ttlt_s: float, tokens: int, generated: int, pressure: float, shortest_s: float
) -> None:
    lengths = DecodeLengths()
    lengths.ended(_request(ttlt_s), tokens)
    schedule = _schedule(ttlt_s, lengths, generated, pressure, shortest_s)
    # A pace is rounded down by less than a step of 20%.
    assert min(shortest_s, _SETTINGS.batch_tbt_s) / 1.21 <= schedule.pace_s
    assert schedule.pace_s <= _SETTINGS.batch_tbt_s


# ---- answers of batch


def _last_token_s(ttlt_s: float, tokens: int) -> tuple[float, float]:
    """When the answer to a batch request ends, and the mean iteration until then: no other
    is running, and prompts that are due in an hour wait all the time."""
    policy, now_s = NiyamaPolicy(FLAT_MODEL), 0.0
    policy.add(replace(batch("a", 200, ttlt_s=ttlt_s), max_output_tokens=tokens), now_s)
    _, now_s = serve(policy, now_s)
    policy.add(batch("others", 500_000, ttlt_s=3_600.0), now_s)
    for _ in range(tokens - 1):
        _, now_s = serve(policy, now_s)
    return now_s, now_s / tokens


def test_an_answer_of_batch_meets_a_deadline_that_the_device_can_keep() -> None:
    """400 tokens in 20 s: 50 ms each, of which the decode needs 10 ms."""
    end_s, iteration_s = _last_token_s(20.0, 400)
    assert 19.0 < end_s <= 20.0
    assert iteration_s == pytest.approx(0.05, rel=0.05)


def test_an_answer_of_batch_that_cannot_be_met_shortens_no_iteration() -> None:
    _, iteration_s = _last_token_s(1.5, 400)
    assert iteration_s > 0.09


def test_a_short_deadline_leaves_most_of_its_time_to_the_answer() -> None:
    """The prompt takes 1 s; of the other 19 s 85% are kept for the answer."""
    lengths = _always(500)
    prefill = Prefill(batch("a", 100, arrival_s=5.0, ttlt_s=20.0))
    due = prompt_due(prefill, lengths, 0.01, _SETTINGS)
    assert due.due_s == pytest.approx(6.0 + 0.15 * 19.0)


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
    assert prompt_due(prefill, DecodeLengths(), 0.001, settings) == due


# ---- first tokens that are held back


def _held(pressure: float, near_pressure: float, offered_load: float = 0.0) -> float:
    return hold_share(Circumstances(pressure, near_pressure, offered_load, 0.05), _SETTINGS)


def test_first_tokens_are_held_back_as_work_that_is_due_soon_takes_the_time() -> None:
    assert _held(0.2, 0.2) == 0.0
    assert _held(0.35, 0.35) == pytest.approx(0.5)
    assert _held(0.6, 0.6) == 1.0


def test_first_tokens_are_held_back_for_what_is_due_far_ahead_where_as_much_keeps_coming() -> None:
    assert _held(0.6, 0.1, offered_load=0.5) == 0.0
    assert _held(0.35, 0.1, offered_load=0.9) == pytest.approx(0.5)
    assert _held(0.2, 0.1, offered_load=2.0) == 0.0


def test_first_tokens_are_held_back_when_there_is_hardly_time_for_the_rest() -> None:
    assert _held(0.96, 0.1) == 1.0


def _shown_at_once(work_s: float) -> bool:
    """Whether a chat's first token is, with so much work of batch due in ten minutes."""
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("backlog", int(work_s * policy._learned.tokens_per_s), ttlt_s=600.0), 0.0)
    policy.add(chat("chat", 100), 0.0)
    plan = policy.plan(0.0, PLENTY)
    return "chat" not in policy.observe(IterationResult(0.3, 0.3, plan.chunks))


def test_a_chat_is_shown_at_once_while_batch_has_minutes() -> None:
    assert _shown_at_once(170.0)
    assert not _shown_at_once(310.0)
