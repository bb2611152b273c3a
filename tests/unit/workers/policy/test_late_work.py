"""Late work yields to what can still be met, at every stage, where that needs the time.

10 ms an iteration and 0.1 ms a token: 2,560 tokens take 266 ms.
"""

from dataclasses import replace

import pytest

from tests.support.requests import FLAT_MODEL, PLENTY, batch, chat, serve
from workers.policy.decision import DecisionKind
from workers.policy.limits import PlanLimits
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Request
from workers.policy.settings import Overload, Settings, TokenTiming


def _decided(plan: IterationPlan) -> list[tuple[str, DecisionKind]]:
    return [(decision.request_id, decision.kind) for decision in plan.decisions]


def _with_a_late_prompt_in_progress(settings: Settings | None = None) -> NiyamaPolicy:
    """From 2.9 s on, 7,440 tokens are left of a chat whose first token is due at 3 s."""
    policy = NiyamaPolicy(FLAT_MODEL, settings)
    policy.add(chat("late", 10_000, ttft_s=3.0), 0.0)
    serve(policy, 0.0)
    return policy


# ---- prompts in progress


def test_a_prompt_in_progress_that_cannot_be_met_any_more_yields_to_one_that_can() -> None:
    policy = _with_a_late_prompt_in_progress()
    policy.add(chat("other", 2_000, arrival_s=2.9, ttft_s=0.6), 2.9)
    plan, now_s = serve(policy, 2.9, finished=("other",))
    assert plan.chunks == (Chunk("other", 2_000), Chunk("late", 560))
    assert _decided(plan) == [("late", DecisionKind.RELEGATED)]
    assert plan.decisions[0].reason == "too late to be met"
    # Nothing else is left.
    assert serve(policy, now_s)[0].chunks == (Chunk("late", 2_560),)


def test_a_late_prompt_in_progress_is_parked_even_for_what_is_beyond_the_cutoff() -> None:
    policy = _with_a_late_prompt_in_progress()
    for name in ("a", "b"):  # 6 s of work each, due in 8 s
        policy.add(chat(name, 60_000, arrival_s=2.9, ttft_s=8.0), 2.9)
    plan, now_s = serve(policy, 2.9)
    assert ("late", DecisionKind.PARKED) in _decided(plan)
    assert plan.decisions[-1].reason == "others can still be met"
    for _ in range(20):
        plan, now_s = serve(policy, now_s)
        assert plan.chunks[0].request_id != "late"


def test_a_late_prompt_in_progress_goes_before_late_prompts_that_wait() -> None:
    policy = _with_a_late_prompt_in_progress()
    policy.add(chat("hopeless", 2_000, arrival_s=2.9, ttft_s=0.1), 2.9)
    assert serve(policy, 2.9)[0].chunks == (Chunk("late", 2_560),)


def test_a_late_prompt_that_was_started_when_capacity_was_left_yields_when_it_is_not() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("late", 10_000, ttft_s=0.5), 0.0)
    plan, now_s = serve(policy, 0.0)
    assert plan.chunks == (Chunk("late", 2_560),)
    policy.add(chat("other", 2_560, arrival_s=now_s), now_s)
    plan, now_s = serve(policy, now_s, finished=("other",))
    assert plan.chunks == (Chunk("other", 2_560),)
    assert serve(policy, now_s)[0].chunks == (Chunk("late", 2_560),)


def test_work_that_yields_keeps_nobody_else_from_being_met() -> None:
    policy = _with_a_late_prompt_in_progress()
    policy.add(chat("huge", 100_000, arrival_s=2.0, ttft_s=12.0), 2.0)
    serve(policy, 2.0)
    # 10 s of work begun and due at 14 s: a chat of 2 s in between would be late, unless it is
    # the huge one that is late already.
    policy.add(chat("other", 20_000, arrival_s=9.0), 9.0)
    plan, _ = serve(policy, 9.0)
    assert plan.chunks == (Chunk("other", 2_560),)
    assert ("other", DecisionKind.RELEGATED) not in _decided(plan)


def test_a_prompt_in_progress_that_can_be_met_again_is_restored() -> None:
    policy = _with_a_late_prompt_in_progress()
    policy.add(chat("other", 9_000, arrival_s=2.9, ttft_s=2.0), 2.9)
    _, now_s = serve(policy, 2.5)
    assert now_s < 2.9
    plan, now_s = serve(policy, 2.6)
    assert plan.chunks == (Chunk("other", 2_560),)
    policy.correct("late", held_tokens=9_500, remaining_tokens=500)
    plan, _ = serve(policy, 2.9)
    assert plan.chunks[0] == Chunk("late", 500)
    assert ("late", DecisionKind.RESTORED) in _decided(plan)


def test_a_batch_prompt_in_progress_is_not_given_up_while_its_answer_may_be_short() -> None:
    """Due at 123 s, with 76.8 s left for the answer; one of the expected 256 tokens takes 25.6."""
    for now_s, first in ((150.0, "b"), (180.0, "other")):
        policy = NiyamaPolicy(FLAT_MODEL)
        policy.add(batch("b", 10_000, ttlt_s=200.0), 0.0)
        serve(policy, 0.0)
        policy.add(chat("other", 1_000, arrival_s=now_s, ttft_s=1.0), now_s)
        assert policy.plan(now_s, PLENTY).chunks[0].request_id == first


def test_earliest_deadline_first_gives_up_nothing() -> None:
    policy = _with_a_late_prompt_in_progress(Settings(overload=Overload.NONE))
    policy.add(chat("other", 2_000, arrival_s=2.9), 2.9)
    assert serve(policy, 2.9)[0].chunks == (Chunk("late", 2_560),)


def test_a_late_prompt_is_the_first_to_lose_its_kv() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("late", 4_000, ttft_s=1.0), 0.0)
    serve(policy, 0.0, free=5_000)
    policy.add(chat("other", 3_000, arrival_s=2.0, ttft_s=0.5), 2.0)
    plan, now_s = serve(policy, 2.0, free=2_440)
    assert plan.reclaim_kv == ("late",)
    assert plan.chunks == (Chunk("other", 2_560),)
    # It starts over when there is room, and takes nobody's.
    plan, now_s = serve(policy, now_s, free=2_440, finished=("other",))
    assert plan.chunks == (Chunk("other", 440),)
    plan, now_s = serve(policy, now_s, free=5_000)
    assert plan.chunks == (Chunk("late", 2_560),)


# ---- prompts that wait


def _with_late_prompts_that_wait(*late: Request) -> tuple[NiyamaPolicy, float]:
    """They have been given up; of other work, 7,440 tokens are left."""
    policy = NiyamaPolicy(FLAT_MODEL, Settings(overload=Overload.HYBRID))
    policy.add(batch("b", 10_000), 0.0)
    for request in late:
        policy.add(request, 0.0)
    plan, now_s = serve(policy, 0.0)
    assert plan.chunks == (Chunk("b", 2_560),)
    assert {(d.request_id, d.reason) for d in plan.decisions} == {
        (request.request_id, "too late to be met") for request in late
    }
    return policy, now_s


def test_a_prompt_whose_work_has_shrunk_can_be_met_again() -> None:
    policy, now_s = _with_late_prompts_that_wait(chat("late", 20_000, ttft_s=1.5))
    policy.correct("late", held_tokens=0, remaining_tokens=1_000)
    plan, _ = serve(policy, now_s)
    assert plan.chunks[0] == Chunk("late", 1_000)
    assert ("late", DecisionKind.RESTORED) in _decided(plan)


def test_a_prompt_beyond_the_cutoff_is_ranked_anew_when_its_work_has_shrunk() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 10_000), 0.0)
    policy.add(chat("late", 20_000, ttft_s=1.5), 0.0)
    plan, now_s = serve(policy, 0.0)
    assert [(d.request_id, d.reason) for d in plan.decisions] == [("late", "not all can be met")]
    policy.correct("late", held_tokens=0, remaining_tokens=1_000)
    assert serve(policy, now_s)[0].chunks[0] == Chunk("late", 1_000)


def test_prompts_can_be_met_again_when_the_replica_turns_out_to_be_faster() -> None:
    late = [
        chat(f"{index:02d}", 5_000 + index, ttft_s=0.5) for index in range(PlanLimits().decisions)
    ]
    policy, now_s = _with_late_prompts_that_wait(*late)
    policy.use(FLAT_MODEL.scaled(0.01))
    plan, _ = serve(policy, now_s)
    assert plan.chunks[0].request_id in {request.request_id for request in late}


def test_a_prompt_whose_deadline_has_passed_stays_late() -> None:
    policy, _ = _with_late_prompts_that_wait(chat("late", 20_000, ttft_s=1.5))
    policy.correct("late", held_tokens=0, remaining_tokens=1)
    assert serve(policy, 1.6)[0].chunks == (Chunk("b", 2_560),)


# ---- time to spare


def test_a_late_prompt_goes_first_while_what_can_be_met_has_time() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 100_000, ttlt_s=1_800.0), 0.0)
    policy.add(chat("late", 4_000, ttft_s=0.1), 0.0)
    plan, now_s = serve(policy, 0.0)
    assert ("late", DecisionKind.RELEGATED) in _decided(plan)
    assert serve(policy, now_s)[0].chunks == (Chunk("late", 2_560),)


def test_a_late_prompt_in_progress_goes_on_while_what_can_be_met_has_time() -> None:
    policy = _with_a_late_prompt_in_progress()
    policy.add(batch("b", 100_000, arrival_s=2.9, ttlt_s=1_800.0), 2.9)
    plan, now_s = serve(policy, 2.9)
    assert plan.chunks == (Chunk("late", 2_560),)
    assert ("late", DecisionKind.RELEGATED) in _decided(plan)
    assert serve(policy, now_s)[0].chunks == (Chunk("late", 2_560),)


def test_late_prompts_make_nobody_else_late_however_many_they_are() -> None:
    """40 s of them, and a batch prompt of 8 s that is due at 31 s."""
    policy = NiyamaPolicy(FLAT_MODEL)
    left = {f"{index:02d}": 10_000 for index in range(40)}
    for name in left:
        policy.add(chat(name, 10_000, ttft_s=0.1), 0.0)
    left["b"] = 80_000
    policy.add(batch("b", 80_000, arrival_s=1.0, ttlt_s=107.0), 1.0)
    now_s = 1.0
    while left["b"]:
        plan = policy.plan(now_s, PLENTY)
        for name, tokens in plan.chunks:
            left[name] -= tokens
        now_s += plan.predicted_s
        done = tuple(name for name, tokens in left.items() if not tokens)
        policy.observe(IterationResult(now_s, plan.predicted_s, plan.chunks, done))
    assert now_s < 31.0
    assert sum(left.values()) < 320_000


def test_no_late_prompt_goes_first_while_others_are_beyond_the_cutoff() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for name in ("a", "b"):  # 30 s of work each, due in 39 s
        policy.add(batch(name, 300_000, ttlt_s=90.0), 0.0)
    policy.add(chat("late", 100, ttft_s=0.001), 0.0)
    now_s = 0.0
    for _ in range(10):
        plan, now_s = serve(policy, now_s)
        assert "late" not in [chunk.request_id for chunk in plan.chunks]


def test_a_late_prompt_leaves_the_memory_that_others_wait_for() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 5_000, ttlt_s=1_800.0), 0.0)
    policy.add(chat("late", 1_000, ttft_s=0.01), 0.0)
    _, now_s = serve(policy, 0.0, free=500)
    assert serve(policy, now_s, free=5_500)[0].chunks[0].request_id == "b"


def test_a_late_prompt_waits_for_one_that_must_not_be_parked() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(park=False))
    policy.add(batch("b", 100_000, ttlt_s=1_800.0), 0.0)
    policy.add(chat("late", 4_000, ttft_s=0.1), 0.0)
    _, now_s = serve(policy, 0.0)
    assert serve(policy, now_s)[0].chunks == (Chunk("b", 2_560),)


@pytest.mark.parametrize("large_tokens", [60_000, 300_000])
def test_a_large_late_prompt_keeps_no_late_chat_from_the_time_to_spare(large_tokens: int) -> None:
    """60,000 tokens have no memory beside what others need; 300,000 more work than is spare."""
    policy = NiyamaPolicy(FLAT_MODEL)
    for index in range(20):
        policy.add(batch(f"b{index}", 2_500, ttlt_s=100.0), 0.0)
    policy.add(chat("large", large_tokens, ttft_s=0.01), 0.0)
    policy.add(chat("small", 300, ttft_s=0.02), 0.0)
    now_s, first = 0.0, []
    for _ in range(4):
        plan, now_s = serve(policy, now_s, free=50_000 if large_tokens == 60_000 else PLENTY)
        first.append(plan.chunks[0])
    assert Chunk("small", 300) in first


def test_a_large_late_prompt_in_progress_keeps_no_late_chat_from_the_time_to_spare() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("large", 300_000, ttft_s=0.01), 0.0)
    _, now_s = serve(policy, 0.0)
    for index in range(20):
        policy.add(batch(f"b{index}", 2_500, arrival_s=now_s, ttlt_s=100.0), now_s)
    policy.add(chat("small", 300, arrival_s=now_s, ttft_s=0.02), now_s)
    first = []
    for _ in range(4):
        plan, now_s = serve(policy, now_s)
        first.append(plan.chunks[0])
    assert Chunk("small", 300) in first


def test_of_late_prompts_the_smallest_is_next_when_nothing_else_waits() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("large", 100_000, ttft_s=0.01), 0.0)
    policy.add(chat("small", 2_560, ttft_s=0.02), 0.0)
    _, now_s = serve(policy, 1.0, free=0)
    assert serve(policy, now_s)[0].chunks == (Chunk("small", 2_560),)


# ---- answers


def _decoding(request: Request, now_s: float) -> tuple[NiyamaPolicy, float]:
    """The request's prompt is done at about `now_s`, and much else waits."""
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(request, 0.0)
    _, now_s = serve(policy, now_s)
    policy.add(batch("b", 100_000, ttlt_s=1_800.0), now_s)
    return policy, now_s


def test_a_batch_answer_in_time_has_its_pace() -> None:
    answer = replace(batch("answer", 100, ttlt_s=20.0), max_output_tokens=200)
    policy, now_s = _decoding(answer, 0.0)
    for _ in range(50):
        plan, now_s = serve(policy, now_s)
    assert plan.predicted_s == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("begun_s", [9.9, 10.5])
def test_a_batch_answer_past_its_deadline_leaves_iterations_as_long_as_any(begun_s: float) -> None:
    policy, now_s = _decoding(batch("answer", 100, ttlt_s=10.0), begun_s)
    while now_s < 10.0:
        plan, now_s = serve(policy, now_s)
        assert plan.predicted_s < 0.15
    plan, _ = serve(policy, now_s)
    assert plan.chunks == (Chunk("b", 2_560),)


def test_a_batch_answer_past_its_deadline_goes_on_at_a_pace_of_its_own() -> None:
    settings = Settings(max_chunk_tokens=100_000)
    policy = NiyamaPolicy(FLAT_MODEL, settings)
    policy.add(batch("answer", 100, ttlt_s=1.0), 0.0)
    _, now_s = serve(policy, 1.5)
    policy.add(batch("b", 300_000, ttlt_s=1_800.0), now_s)
    for _ in range(20):
        plan, now_s = serve(policy, now_s)
        assert 0.3 < plan.predicted_s <= settings.late_tbt_s


def test_many_answers_past_their_deadline_yield_a_few_per_plan() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for index in range(40):
        policy.add(batch(f"{index:02d}", 10, ttlt_s=10.0), 0.0)
    serve(policy, 9.8)
    policy.add(batch("b", 100_000, ttlt_s=1_800.0), 10.0)
    now_s, sizes = 10.1, []
    for _ in range(4):
        plan, now_s = serve(policy, now_s)
        sizes.append(sum(chunk.tokens for chunk in plan.chunks))
    assert sizes[-1] == 2_560


@pytest.mark.parametrize("timing", list(TokenTiming))
def test_a_chat_whose_first_token_was_late_keeps_its_gaps_and_catches_nothing_up(
    timing: TokenTiming,
) -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(token_timing=timing))
    policy.add(chat("answer", 100, ttft_s=1.0), 0.0)
    _, now_s = serve(policy, 5.0)
    policy.add(batch("b", 100_000, ttlt_s=1_800.0), now_s)
    for _ in range(20):
        plan, now_s = serve(policy, now_s)
        assert 0.04 < plan.predicted_s < 0.0501


# ---- answers that lost their KV


def _retracted_in_overload(settings: Settings | None = None) -> tuple[NiyamaPolicy, float]:
    """At 5 s a chat that has had two tokens, due at 1 s and later, loses its KV.

    From then on a prompt comes with every plan that could be met, and fills it.
    """
    policy = NiyamaPolicy(FLAT_MODEL, settings)
    policy.add(chat("answer", 100, ttft_s=1.0), 0.0)
    _, now_s = serve(policy, 4.9)
    _, now_s = serve(policy, now_s)
    policy.retract("answer", 5.0)
    return policy, 5.0


@pytest.mark.parametrize("overload", [Overload.CUTOFF, Overload.NONE])
def test_an_answer_that_is_being_read_does_not_yield_when_it_has_lost_its_kv(
    overload: Overload,
) -> None:
    policy, now_s = _retracted_in_overload(Settings(overload=overload))
    for index in range(3):
        policy.add(chat(f"{index}", 60_000, arrival_s=now_s, ttft_s=6.5), now_s)
    plan, _ = serve(policy, now_s)
    assert plan.chunks[0] == Chunk("answer", 102)
    assert ("answer", DecisionKind.RELEGATED) not in _decided(plan)


def test_an_answer_that_has_lost_its_kv_resumes_although_its_prompt_takes_several_chunks() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("answer", 6_000, ttft_s=1.0), 0.0)
    now_s = 0.0
    while not policy.decodes:
        _, now_s = serve(policy, now_s)
    policy.retract("answer", now_s)
    computed = 0
    for index in range(4):
        policy.add(chat(f"{index}", 2_500, arrival_s=now_s, ttft_s=1.0), now_s)
        plan, now_s = serve(policy, now_s)
        computed += sum(chunk.tokens for chunk in plan.chunks if chunk.request_id == "answer")
    assert computed == 6_001


def test_a_late_batch_answer_that_has_lost_its_kv_yields() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("answer", 100, ttlt_s=1.0), 0.0)
    serve(policy, 4.9)
    policy.retract("answer", 5.0)
    policy.add(chat("other", 2_560, arrival_s=5.0, ttft_s=1.0), 5.0)
    plan, _ = serve(policy, 5.0)
    assert plan.chunks == (Chunk("other", 2_560),)


# ---- a chat whose slack is gone


def test_a_chat_without_slack_for_its_tokens_is_not_late() -> None:
    """The engine is away until 0.2 s before its TTFT is over; then it waits on by its TTFT."""
    policy = NiyamaPolicy(FLAT_MODEL, Settings(ttft_reserve=0.25))
    policy.add(batch("later", 500), 0.0)
    policy.add(chat("chat", 500, ttft_s=1.0), 0.0)
    first, now_s = serve(policy, 0.8)
    second, _ = serve(policy, now_s)
    assert [plan.chunks[0].request_id for plan in (first, second)] == ["later", "chat"]
    assert _decided(first) == _decided(second) == []


def test_chats_leave_slack_for_their_tokens_before_what_is_due_a_little_sooner() -> None:
    """A quarter of the TTFT: else every iteration would have to be as short as a gap."""
    policy = NiyamaPolicy(FLAT_MODEL, Settings(ttft_reserve=0.25, learn_answer_lengths=False))
    policy.add(chat("chat", 2_000, ttft_s=8.0), 0.0)
    policy.add(answer := chat("other", 2_000, ttft_s=7.0, arrival_s=0.5), 0.5)
    policy.add(batch("batch", 2_000, ttlt_s=42.0), 0.5)  # its prompt at 6.5 s
    plan, _ = serve(policy, 0.5)
    assert [chunk.request_id for chunk in plan.chunks] == [answer.request_id, "chat"]
