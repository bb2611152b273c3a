"""The discrete-event replica, by worked arithmetic."""

import pytest

from tests.support.requests import FLAT_MODEL, batch, chat, either
from workers.policy.plan import Chunk, IterationPlan, IterationResult, Policy
from workers.policy.release import Release
from workers.simulator.baselines import (
    FixedChunkPolicy,
    Key,
    PaperPolicy,
    edf_key,
    fcfs_key,
    srpf_key,
)
from workers.simulator.replica import Replica, SimulationError
from workers.simulator.workload import SimRequest


def _request(
    name: str, prompt: int, output: int, *, arrival_s: float = 0.0, tbt_s: float | None = 0.05
) -> SimRequest:
    return SimRequest(
        either(name, prompt, arrival_s=arrival_s, target_s=6.0, tbt_s=tbt_s), output, 0
    )


def _replica(policy: Policy, kv_tokens: int = 10_000) -> Replica:
    return Replica(policy, FLAT_MODEL, kv_tokens, noise=0.0)


def test_one_request_takes_its_chunks_and_its_decodes() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 256))
    replica.submit(_request("a", 500, 3))
    replica.run_until(10.0)
    (outcome,) = replica.outcomes
    # Chunks of 256 and 244 tokens, then two iterations of one decode each.
    assert outcome.first_token_s == pytest.approx(0.0356 + 0.0344)
    assert outcome.last_token_s == pytest.approx(0.070 + 2 * 0.0101)
    assert outcome.gaps == 2
    assert outcome.longest_gap_s == pytest.approx(0.0101)
    assert replica.used_kv_tokens == 0


def test_a_chunk_beside_a_decode_makes_its_gap_longer() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 1001))
    replica.submit(_request("a", 100, 2))
    replica.run_until(0.001)
    replica.submit(_request("b", 1000, 1))
    replica.run_until(10.0)
    first = next(outcome for outcome in replica.outcomes if outcome.sim.request.request_id == "a")
    assert first.longest_gap_s == pytest.approx(0.010 + 0.1001)
    assert first.late_gaps == 1
    assert not first.missed_envelope()
    assert not first.missed_first_or_last()


@pytest.mark.parametrize(
    ("key", "first"), [(fcfs_key, "old"), (edf_key, "urgent"), (srpf_key, "short")]
)
def test_the_baselines_differ_in_whom_they_serve_first(key: Key, first: str) -> None:
    policy = FixedChunkPolicy(key, 2_000)
    for name, arrival_s, deadline_s, prompt in (
        ("old", 0.0, 9.0, 3_000),
        ("urgent", 0.1, 2.0, 2_500),
        ("short", 0.2, 10.0, 2_100),
    ):
        policy.add(batch(name, prompt, arrival_s=arrival_s, ttlt_s=deadline_s - arrival_s), 0.2)
    assert policy.plan(0.2, 100_000).chunks == (Chunk(first, 2_000),)


def test_decodes_count_in_the_fixed_chunk() -> None:
    policy = FixedChunkPolicy(fcfs_key, 256)
    policy.add(batch("a", 200), 0.0)
    policy.observe(IterationResult(0.1, 0.1, policy.plan(0.0, 10_000).chunks))
    policy.add(batch("b", 900), 0.1)
    assert policy.plan(0.1, 10_000).chunks == (Chunk("b", 255),)


def test_the_paper_relegates_the_hopeless_behind_all_others() -> None:
    policy = PaperPolicy(FLAT_MODEL)
    policy.add(chat("hopeless", 2_000, ttft_s=0.01), 0.0)
    policy.add(batch("fine", 2_000), 0.0)
    assert [chunk.request_id for chunk in policy.plan(0.0, 10_000).chunks] == ["fine", "hopeless"]


@pytest.mark.parametrize(
    # The next token is due at 1.05 s. At 0.7 s the slack of 0.35 s is 0.29 s with the margin, and
    # 2552 tokens take 0.27 s; at 2.0 s there is none.
    ("now_s", "tokens"),
    [(0.7, 2552), (2.0, 128)],
)
def test_the_paper_takes_the_largest_chunk_that_fits_the_slack(now_s: float, tokens: int) -> None:
    policy = PaperPolicy(FLAT_MODEL)
    policy.add(chat("chat", 100, ttft_s=1.0), 0.0)
    policy.observe(IterationResult(0.5, 0.5, policy.plan(0.0, 10_000).chunks))
    policy.add(batch("b", 5_000), 0.5)
    assert policy.plan(now_s, 10_000).chunks == (Chunk("b", tokens),)


def test_when_memory_runs_out_the_decode_with_least_output_starts_over() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 256), kv_tokens=260)
    replica.submit(_request("a", 100, 120))
    replica.run_until(0.05)
    replica.submit(_request("b", 100, 120))
    replica.run_until(60.0)
    assert replica.retractions >= 1
    outcomes = {outcome.sim.request.request_id: outcome for outcome in replica.outcomes}
    assert outcomes["a"].gaps == outcomes["b"].gaps == 119
    assert outcomes["b"].longest_gap_s > 0.05
    assert outcomes["a"].longest_gap_s < 0.05
    assert replica.used_kv_tokens == 0


def test_a_request_that_can_never_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(SimulationError, match="raise --kv-tokens"):
        _replica(FixedChunkPolicy(fcfs_key, 256), kv_tokens=100).submit(_request("a", 100, 1))


class _Paced(FixedChunkPolicy):
    def observe(self, result: IterationResult) -> dict[str, Release]:
        super().observe(result)
        return {"a": Release(1.0, 0.05)} if result.chunks else {}


def test_paced_tokens_are_scored_as_shown() -> None:
    replica = _replica(_Paced(fcfs_key, 256))
    replica.submit(_request("a", 100, 5))
    replica.run_until(10.0)
    (outcome,) = replica.outcomes
    assert outcome.first_token_s == pytest.approx(1.0)
    assert outcome.last_token_s == pytest.approx(1.0 + 4 * 0.05)
    assert outcome.late_gaps == 0


class _Greedy(FixedChunkPolicy):
    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        return IterationPlan((Chunk("a", 5_000),))


def test_a_plan_that_no_engine_can_run_is_an_error() -> None:
    replica = _replica(_Greedy(fcfs_key, 256))
    replica.submit(_request("a", 100, 1))
    with pytest.raises(SimulationError, match="bad chunk"):
        replica.run_until(1.0)


def test_the_same_seed_gives_the_same_run() -> None:
    def ends(seed: int) -> list[float]:
        replica = Replica(PaperPolicy(FLAT_MODEL), FLAT_MODEL, 10_000, seed=seed)
        for index in range(20):
            replica.submit(_request(f"{index:02d}", 400, 20))
        replica.run_until(100.0)
        return [outcome.last_token_s for outcome in replica.outcomes]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)
