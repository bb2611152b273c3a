"""The discrete-event replica, by worked arithmetic."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, SLOW_MIX_MODEL, batch, chat, either
from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner
from workers.latency.model import LatencyModel
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.release import Release
from workers.simulator.baselines import (
    FixedChunkPolicy,
    Key,
    SheddingPolicy,
    edf_key,
    fcfs_key,
    srpf_key,
)
from workers.simulator.engine import SimulationError
from workers.simulator.laws import Disturbance, Law, linear, noise
from workers.simulator.paper import PaperPolicy
from workers.simulator.planner import Planner
from workers.simulator.policies import policy_factory
from workers.simulator.replica import Replica
from workers.simulator.workload import BLOCK_TOKENS, SimRequest


def _request(
    name: str, prompt: int, output: int, *, arrival_s: float = 0.0, tbt_s: float | None = 0.05
) -> SimRequest:
    return SimRequest(
        either(name, prompt, arrival_s=arrival_s, target_s=6.0, tbt_s=tbt_s), output, 0
    )


def _law(kv_tokens: int = 10_000, *disturbances: Disturbance) -> Law:
    return Law("flat", linear(FLAT_MODEL), kv_tokens, "worked arithmetic", disturbances)


def _replica(policy: Planner, kv_tokens: int = 10_000) -> Replica:
    return Replica(policy, _law(kv_tokens))


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
    assert replica.engine.memory.held_tokens == 0


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


def test_decodes_that_a_plan_leaves_out_have_their_tokens_later() -> None:
    law = Law("slow mix", linear(SLOW_MIX_MODEL), 20_000, "worked arithmetic")
    replica = Replica(policy_factory("niyama")(SLOW_MIX_MODEL), law)
    replica.submit(_request("a", 1000, 40))
    replica.run_until(0.1)
    replica.submit(_request("b", 5000, 2, tbt_s=None))
    decodes: list[int] = []
    replica.on_iteration = lambda ran: decodes.append(ran.decodes if ran.chunk_tokens else 0)
    replica.run_until(10.0)
    chat, long = sorted(replica.outcomes, key=lambda outcome: outcome.sim.request.request_id)
    assert not any(decodes)
    assert (chat.gaps, chat.late_gaps) == (39, 0)
    # 5000 tokens without, and 39 with a decode; some iterations are for one of them alone.
    assert long.last_token_s < 0.1 + 0.5 + 40 * 0.0201
    assert replica.engine.memory.held_tokens == 0


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


def _chunks(policy: FixedChunkPolicy) -> list[str]:
    return [chunk.request_id for chunk in policy.plan(0.0, 100_000).chunks]


def test_shedding_edf_serves_late_work_last() -> None:
    """At 5,000 tokens per second, and with half of a batch request's time left for its answer."""
    policy = SheddingPolicy(edf_key, 20_000, answer_s=4.0)
    policy.add(chat("late", 2_000, ttft_s=0.3), 0.0)
    policy.add(chat("urgent", 2_000, ttft_s=0.5), 0.0)
    policy.add(batch("answer would be late", 2_000, ttlt_s=0.7), 0.0)
    policy.add(batch("fine", 2_000, ttlt_s=0.9), 0.0)
    assert _chunks(policy) == ["urgent", "fine", "late", "answer would be late"]


def test_low_importance_yields_only_when_an_important_prompt_would_be_late_after_it() -> None:
    for ttft_s, order in ((0.7, ["important", "low"]), (0.9, ["low", "important"])):
        policy = SheddingPolicy(edf_key, 20_000, use_importance=True)
        policy.add(chat("low", 2_000, ttft_s=0.6, importance="low"), 0.0)
        policy.add(chat("important", 2_000, ttft_s=ttft_s), 0.0)
        policy.add(chat("hopeless", 50_000, ttft_s=0.8), 0.0)
        assert _chunks(policy)[:2] == order


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
    assert replica.engine.retractions >= 1
    outcomes = {outcome.sim.request.request_id: outcome for outcome in replica.outcomes}
    assert outcomes["a"].gaps == outcomes["b"].gaps == 119
    assert outcomes["b"].longest_gap_s > 0.05
    assert outcomes["a"].longest_gap_s < 0.05
    assert replica.engine.memory.held_tokens == 0


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
        replica = Replica(PaperPolicy(FLAT_MODEL), _law(10_000, noise(0.03)), seed=seed)
        for index in range(20):
            replica.submit(_request(f"{index:02d}", 400, 20))
        replica.run_until(100.0)
        return [outcome.last_token_s for outcome in replica.outcomes]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_with_overlap_an_iteration_is_planned_before_it_is_known_who_finished() -> None:
    """So a decode that has ended is in one more batch, and a plan sees arrivals a step later."""
    plans: list[tuple[float, int]] = []

    class Recorded(FixedChunkPolicy):
        def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
            plans.append((round(now_s, 4), 10_000 - free_kv_tokens))
            plan = super().plan(now_s, free_kv_tokens)
            return replace(plan, predicted_s=0.02)

    replica = Replica(Recorded(fcfs_key, 256), _law(), overlap=True)
    replica.submit(_request("a", 100, 2))
    replica.run_until(0.015)
    replica.submit(_request("b", 100, 1))
    replica.run_until(1.0)
    first, second = replica.outcomes
    assert first.last_token_s == pytest.approx(0.020 + 0.0101)
    # `b` comes while the first iteration runs, at whose start the second was planned; and the
    # third, in which `b` is computed, still has the decode of `a`.
    assert second.last_token_s == pytest.approx(0.020 + 0.0101 + 0.0201)
    assert plans[:3] == [(0.0, 0), (0.02, 100), (0.04, 101)]
    assert replica.engine.memory.held_tokens == 0


class _Learning(FixedChunkPolicy):
    """Keeps what it hears of iterations."""

    def __init__(self) -> None:
        super().__init__(fcfs_key, 64)
        self.heard: list[Sample] = []
        self.models: list[LatencyModel] = []

    def measured(self, ran: Sample, *, full: bool) -> None:
        self.heard.append(ran)

    def use(self, model: LatencyModel) -> None:
        self.models.append(model)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_replica_learns_its_model_from_what_iterations_take(overlap: bool) -> None:
    policy = _Learning()
    replica = Replica(policy, _law(), overlap=overlap, learner=LatencyLearner())
    for index, prompt in enumerate((20, 100, 30, 64, 8, 3, 200)):
        replica.submit(_request(str(index), prompt, 40))
    replica.run_until(10.0)
    assert policy.heard[0].batch == (64, 0, 0, 0, 20 * 10 + 44 * 22)
    assert policy.heard[0].duration_s == pytest.approx(0.0164)
    assert policy.models[-1].iteration_s(50, 0, 5, 500) == pytest.approx(0.0155, rel=0.01)


def _sibling(name: str, blocks: tuple[int, ...], prompt: int, output: int = 3) -> SimRequest:
    return replace(_request(name, prompt, output, tbt_s=None), blocks=blocks)


def test_a_prefix_that_the_replica_has_computed_is_not_computed_again() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 2_000))
    replica.submit(_sibling("a", (1, 2), 1_100))
    replica.run_until(1.0)
    replica.submit(_sibling("b", (1, 2), 1_100))
    replica.run_until(2.0)
    assert replica.engine.computed_tokens == 1_100 + 76
    assert replica.engine.cached_tokens == 1_024
    first, second = replica.outcomes
    assert second.first_token_s - 1.0 == pytest.approx(first.first_token_s - 1_024 * 1e-4)


def test_siblings_that_wait_together_are_computed_one_after_the_other() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 1_100))
    for name in "abc":
        replica.submit(_sibling(name, (1, 2), 1_100))
    replica.run_until(2.0)
    assert replica.engine.computed_tokens == 1_100 + 76 + 76


def test_another_replica_has_computed_nothing() -> None:
    replica = _replica(FixedChunkPolicy(fcfs_key, 2_000))
    replica.submit(_sibling("a", (1, 2), 1_100))
    replica.run_until(1.0)
    other = _replica(FixedChunkPolicy(fcfs_key, 2_000))
    other.submit(_sibling("b", (1, 2), 1_100))
    other.run_until(1.0)
    assert other.engine.cached_tokens == 0


def _planner(name: str) -> Planner:
    return policy_factory(name)(FLAT_MODEL)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4_000), st.integers(1, 60), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["niyama", "niyama/gaps", "niyama-paper", "edf", "jitserve"]),
    st.sampled_from([6_000, 12_000, 40_000]),
    st.booleans(),
)
def test_everything_is_served_whatever_is_shared(
    items: list[tuple[int, int, int, bool]], policy: str, kv_tokens: int, overlap: bool
) -> None:
    replica = Replica(_planner(policy), _law(kv_tokens, noise(0.1)), overlap=overlap)
    for index, (family, prompt, output, chat_) in enumerate(items):
        blocks = tuple(10 * family + i for i in range((prompt - 1) // BLOCK_TOKENS))
        sim = _request(f"{index:02d}", prompt, output, arrival_s=index / 20, tbt_s=chat_ or None)
        replica.run_until(index / 20)
        replica.submit(replace(sim, blocks=blocks))
    replica.run_until(3_600.0)
    assert len(replica.outcomes) == len(items)
    assert replica.engine.memory.held_tokens == 0
