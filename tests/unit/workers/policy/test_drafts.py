"""Decodes that have several tokens of one iteration, because drafts were accepted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, PLENTY, batch, chat, serve
from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad, Decodes, MostUrgent
from workers.policy.learning import Learning
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Prefill
from workers.policy.settings import Settings, TokenTiming
from workers.policy.time_limit import Situation, time_limit_s

ENVELOPE = Settings(token_timing=TokenTiming.ENVELOPE)


def _decoding(learned: Learning | None = None) -> Decodes:
    decodes = Decodes(learned)
    decodes.add(
        chat("chat", 10), next_due_s=1.0, pace_s=0.05, context_tokens=100, generated_tokens=1
    )
    return decodes


def test_each_accepted_token_moves_the_next_one_by_a_pace() -> None:
    decodes = _decoding()
    decodes.advance()
    decodes.accepted({"chat": 3, "unknown": 2})
    assert decodes.next_due_s() == pytest.approx(1.0 + 4 * 0.05)
    assert decodes.context_tokens == 104
    assert decodes.remove("chat")[1] == 5
    assert decodes.context_tokens == 0


def test_a_late_draft_counts_from_when_it_came() -> None:
    decodes = _decoding()
    decodes.advance()
    decodes.shift_late(1.3)
    decodes.accepted({"chat": 1})
    assert decodes.next_due_s() == pytest.approx(1.3 + 2 * 0.05)


def test_a_step_is_expected_to_give_what_steps_have_given() -> None:
    decodes = _decoding()
    urgent = decodes.most_urgent()
    assert urgent is not None
    assert urgent.step_tokens == 1.0
    for _ in range(400):
        decodes.advance()
        decodes.accepted({"chat": 2})
    urgent = decodes.most_urgent()
    assert urgent is not None
    assert urgent.step_tokens == pytest.approx(3.0, rel=0.02)


@given(st.lists(st.integers(0, 7), max_size=40))
def test_drafts_are_nothing_but_more_tokens(accepted: list[int]) -> None:
    decodes = _decoding()
    for tokens in accepted:
        decodes.advance()
        decodes.accepted({"chat": tokens})
    in_all = len(accepted) + sum(accepted)
    assert decodes.next_due_s() == pytest.approx(1.0 + 0.05 * in_all)
    assert decodes.remove("chat") == (chat("chat", 10), 1 + in_all)


def test_with_several_tokens_each_iterations_may_take_longer() -> None:
    at = Situation(
        now_s=10.0,
        decodes=DecodeLoad(4, 100),
        urgent=MostUrgent(11.0, 0.05, 50.0, step_tokens=2.5),
        gap_due_s=float("inf"),
        waiting_work=0.0,
        prefill_context=0,
    )
    limit_s = time_limit_s(at, Calibration(FLAT_MODEL), Settings())
    assert limit_s == pytest.approx(2.5 * (0.05 + 1.0 / 50))
    beside_prompts = at.mixed(DecodeLoad(1, 100))  # no drafts are verified there
    limit_s = time_limit_s(beside_prompts, Calibration(FLAT_MODEL), Settings())
    assert limit_s == pytest.approx(0.05 + 1.0 / 50)


def test_work_counts_what_is_verified_for_the_tokens_to_come() -> None:
    learned = Learning(FLAT_MODEL, Settings(), verified_tokens=4)
    request = replace(batch("r", 1_000), max_output_tokens=100)
    before = learned.work(Prefill(request)) - 1_000
    learned.step_tokens.observe(1_000, 2_000)
    assert learned.work(Prefill(request)) - 1_000 == pytest.approx(before / 2)


def test_memory_is_kept_free_for_whole_drafts() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, verified_tokens=4)
    policy.add(chat("chat", 100), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(replace(batch("b", 5_000), max_output_tokens=1), now_s)
    assert sum(chunk.tokens for chunk in policy.plan(now_s, 4).chunks) == 0
    assert policy.plan(now_s, PLENTY).predicted_s >= FLAT_MODEL.iteration_s(128, 0, 4, 0)


@pytest.mark.parametrize("verified_tokens", [1, 8])
def test_beside_prompts_a_decode_costs_one_token(verified_tokens: int) -> None:
    policy = NiyamaPolicy(FLAT_MODEL, ENVELOPE, verified_tokens=verified_tokens)
    policy.add(chat("chat", 100), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 50_000), now_s)
    plan = policy.plan(5.9, PLENTY)
    tokens = sum(chunk.tokens for chunk in plan.chunks)
    assert plan.predicted_s == pytest.approx(0.010 + (tokens + 1) * 0.0001)


def test_the_first_answer_is_learned_from() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    decodes = _decoding(learned)
    decodes.advance()
    decodes.finish("chat")
    assert len(learned.lengths) == 2  # its tenant, and its application
