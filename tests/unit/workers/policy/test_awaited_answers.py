"""Answers that somebody waits for as a whole get just enough to be complete in time.

10 ms an iteration and 0.1 ms a token. Without a history answers of 256 tokens are expected, and of
768 at most.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.requests import FLAT_MODEL, awaited, batch, chat
from workers.policy.decision import DecisionKind
from workers.policy.decode_length import DecodeLengths
from workers.policy.decodes import Decodes
from workers.policy.pacing import Circumstances, just_enough
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import RequestQos, Task
from workers.policy.request import Request, Share
from workers.policy.settings import Settings

PLENTY = 10_000_000


def _serve(
    policy: NiyamaPolicy, now_s: float, finished: tuple[str, ...] = ()
) -> tuple[IterationPlan, float]:
    plan = policy.plan(now_s, PLENTY)
    end_s = now_s + plan.predicted_s
    policy.observe(IterationResult(end_s, plan.predicted_s, plan.chunks, finished))
    return plan, end_s


def _answered_s(policy: NiyamaPolicy, request: Request, tokens: int) -> float:
    """When the last of so many tokens came, while prompts of batch fill what is left."""
    policy.add(batch("b", 3_000_000, ttlt_s=90_000.0), 0.0)
    policy.add(request, 0.0)
    now_s = 0.0
    while not policy.decodes:
        _, now_s = _serve(policy, now_s)
    for _ in range(tokens - 1):
        _, now_s = _serve(policy, now_s)
    return now_s


def _learn_lengths(policy: NiyamaPolicy, lengths: Sequence[int]) -> None:
    """Answers to earlier requests."""
    for tokens in lengths:
        policy._learned.lengths.ended(awaited("earlier", 1), tokens)


@pytest.mark.parametrize(("ttlt_s", "tokens"), [(15.0, 256), (60.0, 512)])
def test_an_answer_of_the_expected_length_is_complete_in_time(ttlt_s: float, tokens: int) -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    assert _answered_s(policy, awaited("tool", 100, ttlt_s=ttlt_s), tokens) <= ttlt_s


def test_an_answer_gets_no_more_than_it_needs() -> None:
    """As slow as batch would be, where there is time for that."""
    policy = NiyamaPolicy(FLAT_MODEL)
    assert _answered_s(policy, awaited("tool", 100, ttlt_s=120.0), 200) > 200 * 0.09


def test_the_prompt_of_an_awaited_answer_goes_before_batch_and_after_a_closer_chat() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("batch", 3_000, ttlt_s=60.0), 0.0)
    policy.add(awaited("tool", 1_000, ttlt_s=24.0), 0.0)  # due at 3.6 s: it keeps 15% of its time
    policy.add(chat("chat", 1_000, ttft_s=3.0), 0.0)
    plan, _ = _serve(policy, 0.0)
    assert plan.chunks == (Chunk("chat", 1_000), Chunk("tool", 1_000), Chunk("batch", 560))


def test_what_can_be_met_without_its_margin_is_not_relegated() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    _learn_lengths(policy, [400 if index % 8 == 0 else 20 for index in range(400)])
    policy.add(awaited("tool", 10_000, ttlt_s=20.0), 0.0)
    prefill = policy._backlog["tool"]
    assert prefill.due_s < 11.0
    assert prefill.latest_s > 16.0
    plan, _ = _serve(policy, 11.0)
    assert not plan.chunks  # set aside, decided about, and waiting again
    assert not plan.decisions
    plan, _ = _serve(policy, 11.1)
    assert plan.chunks
    assert prefill.due_s == prefill.latest_s


def test_a_call_of_a_task_whose_deadline_passed_yields() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    late = RequestQos.call(0.0, task=Task("trip", 1, 2), deadline_s=5.0)
    policy.add(Request("late", late, 2_000), 6.0)
    policy.add(batch("b", 3_000, arrival_s=6.0, ttlt_s=1.0), 6.0)
    _, now_s = _serve(policy, 6.0)
    plan, _ = _serve(policy, now_s)
    assert plan.chunks[0].request_id == "b"
    assert [(d.request_id, d.kind) for d in plan.decisions] == []


def test_the_forecast_of_a_late_call_has_its_answer_in_it() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(awaited("tool", 30_000, ttlt_s=1.0), 0.0)
    plan, _ = _serve(policy, 0.0)
    (decision,) = plan.decisions
    assert decision.kind is DecisionKind.RELEGATED
    assert decision.forecast is not None
    assert decision.forecast.finish_s > 256 * Settings().deadline_tbt_s


def test_a_share_of_a_tasks_time_is_not_worth_a_short_pace() -> None:
    circumstances = Circumstances(1.0, 1.0, 0.0, shortest_pace_s=0.05)

    def pace_s(due_s: float) -> float:
        request = replace(awaited("call", 10, ttlt_s=60.0), max_output_tokens=100)
        request = replace(request, share=Share(due_s, 60.0))
        return just_enough(request, 0, 0.0, circumstances, DecodeLengths(), Settings()).pace_s

    assert 0.06 / 1.2 < pace_s(6.0) <= 0.06
    assert pace_s(3.0) == 0.1


# ---- looking again


def test_schedules_are_looked_at_again_while_tokens_come_a_few_at_a_time() -> None:
    decodes = Decodes()
    for name in "abc":
        decodes.add(
            awaited(name, 10), next_due_s=1.0, pace_s=0.1, context_tokens=10, generated_tokens=1,
            revised=True,
        )  # fmt: skip
    decodes.add(batch("d", 10), next_due_s=1.0, pace_s=0.1, context_tokens=10, generated_tokens=1)
    decodes.remove("b")
    assert list(decodes.to_revise(9)) == []
    for _ in range(16):
        decodes.advance()
    seen = [(r.request_id, generated) for _ in range(3) for r, generated in decodes.to_revise(1)]
    assert seen == [("a", 17), ("c", 17)]


def test_an_answer_that_gets_another_pace_is_due_by_it() -> None:
    decodes = Decodes()
    decodes.add(awaited("a", 10), next_due_s=1.0, pace_s=0.1, context_tokens=1, generated_tokens=1)
    decodes.advance()
    decodes.reschedule("a", 5.0, 0.05)
    assert decodes.next_due_s() == pytest.approx(5.0)
    decodes.advance()
    assert decodes.next_due_s() == pytest.approx(5.05)
    assert decodes.remove("a")[1] == 3
