"""JITServe's frames: who is in the batch, who is paused, and when that changes."""

import pytest

from tests.support.requests import FLAT_MODEL, batch, chat
from workers.latency.fit import Sample
from workers.policy.plan import Chunk, IterationResult
from workers.simulator.jitserve import FRAME_ITERATIONS, JitServePolicy
from workers.simulator.laws import Law, linear
from workers.simulator.planner import PausingPlan
from workers.simulator.replica import Replica
from workers.simulator.workload import SimRequest

_LAW = Law("flat", linear(FLAT_MODEL), 100_000, "worked arithmetic")


def _run(policy: JitServePolicy, now_s: float = 0.0) -> PausingPlan:
    """Plan one iteration, and compute it."""
    plan = policy.plan(now_s, 100_000)
    policy.measured(Sample(0, 0, 0, 0, 0.02, 0), full=False)
    policy.observe(IterationResult(now_s, 0.02, plan.chunks))
    return plan


def _frame(policy: JitServePolicy) -> None:
    for _ in range(FRAME_ITERATIONS - 1):
        _run(policy)


def test_free_places_are_filled_between_choices() -> None:
    policy = JitServePolicy(500, batch_requests=2)
    assert not policy.plan(0.0, 100_000).chunks
    policy.add(batch("a", 100), 0.0)
    assert _run(policy).chunks == (Chunk("a", 100),)
    policy.add(batch("b", 100), 0.0)
    policy.add(batch("c", 100), 0.0)
    # Beside one answer, in the one place that is left; ties go to the larger id.
    assert _run(policy).chunks == (Chunk("c", 100),)
    policy.observe(IterationResult(0.0, 0.02, finished=("a",)))
    assert _run(policy).chunks == (Chunk("b", 100),)


def test_nobody_is_preempted_before_the_next_choice() -> None:
    policy = JitServePolicy(500, batch_requests=1)
    policy.add(batch("slow", 100), 0.0)
    plan = _run(policy)
    policy.add(chat("urgent", 100, ttft_s=0.5), 0.0)
    for _ in range(FRAME_ITERATIONS - 1):
        plan = _run(policy)
        assert not plan.chunks
        assert not plan.paused
    plan = _run(policy)
    assert plan.chunks == (Chunk("urgent", 100),)
    assert plan.paused == {"slow"}


def test_without_just_enough_the_gain_alone_decides() -> None:
    policy = JitServePolicy(500, batch_requests=1, just_enough=False)
    policy.add(batch("near its end", 100), 0.0)
    _run(policy)
    policy.add(chat("urgent", 100, ttft_s=0.5), 0.0)
    _frame(policy)
    assert not _run(policy).paused


def test_a_batch_of_prompts_without_memory_lets_all_answers_run() -> None:
    policy = JitServePolicy(500, batch_requests=1)
    policy.add(batch("slow", 100), 0.0)
    _run(policy)
    policy.add(chat("urgent", 500, ttft_s=0.5), 0.0)
    _frame(policy)
    plan = policy.plan(0.0, 400)
    assert not plan.chunks
    assert not plan.paused


def test_a_paused_answer_goes_on_where_it_was() -> None:
    """The chat takes the only place for its 3 tokens: the other answer has as many fewer gaps."""
    replica = Replica(JitServePolicy(500, batch_requests=1), _LAW)
    replica.submit(SimRequest(batch("slow", 100, ttlt_s=600.0), 100, 0))
    replica.run_until(0.01)
    replica.submit(SimRequest(chat("urgent", 100, arrival_s=0.01, ttft_s=1.0), 3, 0))
    replica.run_until(10.0)
    ends = {o.sim.request.request_id: o.last_token_s for o in replica.outcomes}
    prompt_s, token_s = 0.020, 0.0101
    # The first choice is before iteration 0; the second before iteration 50.
    assert ends["urgent"] == pytest.approx(prompt_s + 49 * token_s + prompt_s + 2 * token_s)
    assert ends["slow"] == pytest.approx(ends["urgent"] + 50 * token_s)
    assert replica.engine.memory.held_tokens == 0
    assert replica.engine.retractions == 0
