"""Calls of a task arrive one after another, and the task is met when the last one is in time."""

import random
from collections import defaultdict
from itertools import pairwise

import pytest

from workers.latency.profiles import A100_LLAMA3_8B
from workers.simulator.cluster import RoundRobin, run_cluster
from workers.simulator.experiment import Experiment
from workers.simulator.outcome import Outcome
from workers.simulator.traces import Trace
from workers.simulator.workload import BLOCK_TOKENS, Lengths, SimRequest, Tier

AGENT = Tier.task("agent", ttlt_s=20.0, calls=3, think_s=1.0, says_calls_left=True)
TRACE = Trace("small", tuple(Lengths(200 + 40 * i, 5 + i) for i in range(40)), None)
EXPERIMENT = Experiment(TRACE, A100_LLAMA3_8B, (AGENT,), duration_s=60.0, warm_up_s=5.0)


def _run(duration_s: float = 60.0, replicas: int = 1) -> list[Outcome]:
    return run_cluster(
        EXPERIMENT.requests(1.0),
        [EXPERIMENT.replica("niyama", index) for index in range(replicas)],
        RoundRobin(),
        until_s=duration_s,
    )


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_call_arrives_when_the_one_before_was_answered_and_thought_about(replicas: int) -> None:
    seen: dict[str, list[tuple[SimRequest, float]]] = defaultdict(list)

    class Noting(RoundRobin):
        def __call__(self, sim, replicas):  # type: ignore[no-untyped-def]
            assert sim.task is not None
            seen[sim.task.name].append((sim, max(r.now_s for r in replicas)))
            return super().__call__(sim, replicas)

    nodes = [EXPERIMENT.replica("niyama", index) for index in range(replicas)]
    outcomes = run_cluster(EXPERIMENT.requests(1.0), nodes, Noting(), until_s=60.0)
    assert max(len(calls) for calls in seen.values()) > 3
    assert len(outcomes) == len(seen)
    for calls in seen.values():
        assert [sim.call for sim, _ in calls] == list(range(len(calls)))
        for (before, _), (after, now_s) in pairwise(calls):
            gone_s = after.request.qos.arrival_s - before.request.qos.arrival_s
            assert after.task is not None
            assert gone_s > after.task.calls[after.call].think_s
            assert now_s - after.request.qos.arrival_s < 0.5  # at most the iteration that runs


def test_a_task_is_one_outcome_and_counts_from_its_first_call_to_its_last_answer() -> None:
    outcomes = _run()
    done = [outcome for outcome in outcomes if outcome.finished]
    assert len({o.sim.task.name for o in outcomes if o.sim.task}) == len(outcomes)
    assert all(outcome.sim.calls_left == 0 for outcome in done)
    longest = max(done, key=lambda outcome: outcome.sim.call)
    assert longest.latency_s() == longest.last_token_s - longest.sim.task.arrival_s  # type: ignore[union-attr]
    assert not longest.missed_envelope()


def test_a_task_whose_next_call_did_not_arrive_in_the_run_has_missed() -> None:
    outcomes = _run(duration_s=10.0)
    missed = [outcome for outcome in outcomes if outcome.missed_envelope()]
    assert missed
    assert any(outcome.sim.call > 0 for outcome in missed)
    assert all(not outcome.finished for outcome in missed)


def test_the_calls_of_a_task_share_its_deadline_and_say_how_many_follow() -> None:
    first = next(sim for sim in EXPERIMENT.requests(1.0) if sim.calls_left == 2)
    second = first.next_call(answered_s=first.arrival_s + 3.0)
    assert second is not None
    assert second.request.qos.arrival_s > first.arrival_s + 3.0
    assert second.request.qos.deadline_s == first.arrival_s + 20.0
    task = second.request.qos.task
    assert task is not None
    assert (task.call, task.calls_left) == (2, 1)
    assert second.tokens == first.output_tokens + second.output_tokens
    assert second.next_call(5.0).next_call(6.0) is None  # type: ignore[union-attr]


def test_the_context_of_a_task_grows_and_begins_alike() -> None:
    rng = random.Random(3)
    sizes = [Lengths(rng.randrange(1, 3000), rng.randrange(1, 100)) for _ in range(20)]
    experiment = Experiment(Trace("t", tuple(sizes), None), A100_LLAMA3_8B, (AGENT,), duration_s=30)
    blocks_of: dict[int, str] = {}
    for sim in experiment.requests(2.0):
        assert sim.task is not None
        for call in sim.task.calls:
            assert len(call.size.blocks) == (call.size.prompt_tokens - 1) // BLOCK_TOKENS
            for block in call.size.blocks:
                assert blocks_of.setdefault(block, sim.task.name) == sim.task.name
        for before, after in pairwise(sim.task.calls):
            grown = after.size.prompt_tokens - before.size.prompt_tokens
            assert grown > before.size.output_tokens
            assert after.size.blocks[: len(before.size.blocks)] == before.size.blocks


def test_tasks_are_scored_as_one_by_tier_and_by_class() -> None:
    summary = EXPERIMENT.run("niyama", 1.0)
    inside = [r for r in EXPERIMENT.requests(1.0) if 5.0 <= r.arrival_s < 40.0]
    assert summary.tiers[0].requests == summary.interactive.requests == len(inside)
    assert summary.missed == summary.interactive.missed == 0.0
