"""The policy as a whole, on virtual time."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, PLENTY, batch, chat, either, serve
from workers.latency.model import Coefficients, LatencyModel
from workers.latency.profiles import A100_LLAMA3_8B
from workers.policy.decision import DecisionKind
from workers.policy.decode_length import DecodeLengths
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.settings import Alternation, Overload, Settings, TokenTiming


def test_an_idle_replica_takes_the_largest_chunk() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 10_000), 0.0)
    plan = policy.plan(0.0, PLENTY)
    assert plan.chunks == (Chunk("b", 2560),)
    assert plan.predicted_s == pytest.approx(0.010 + 0.256)


def test_prompts_are_packed_in_order_of_their_due_times() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 4_000), 0.0)
    policy.add(chat("late", 300, ttft_s=9.0), 0.0)
    policy.add(chat("soon", 200, ttft_s=3.0), 0.0)
    plan = policy.plan(0.0, PLENTY)
    assert plan.chunks == (Chunk("soon", 200), Chunk("late", 300), Chunk("b", 2060))


def test_a_running_chat_bounds_the_iteration_by_its_next_gap() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(token_timing=TokenTiming.GAPS))
    policy.add(chat("chat", 100), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 10_000), now_s)
    plan = policy.plan(now_s, PLENTY)
    # The gap is 50 ms and the margin 20% until it is known: (41.7 - 10 - 0.1) / 0.1 tokens.
    assert plan.chunks[0].tokens == pytest.approx((0.05 / 1.2 - 0.0101) / 0.0001, abs=2)


def test_the_envelope_spreads_its_slack_over_the_tokens_to_come() -> None:
    policy = NiyamaPolicy(
        FLAT_MODEL, Settings(token_timing=TokenTiming.ENVELOPE, slack_spread_tokens=100)
    )
    policy.add(chat("chat", 100), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 10_000), now_s)
    # The second token is due at 6.05 s: 50 ms and a hundredth of the slack.
    limit_s = 0.05 + (6.05 - now_s) / 100
    tokens = policy.plan(now_s, PLENTY).chunks[0].tokens
    assert tokens == pytest.approx((limit_s - 0.0101) / 0.0001, abs=2)


def test_short_answers_spend_their_slack_over_their_own_length() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(token_timing=TokenTiming.ENVELOPE))
    request = replace(chat("chat", 100), max_output_tokens=60)
    policy.add(request, 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 10_000), now_s)
    limit_s = 0.05 + (6.05 - now_s) / DecodeLengths().to_come(request, produced=1)
    tokens = policy.plan(now_s, PLENTY).chunks[0].tokens
    assert tokens == pytest.approx((limit_s - 0.0101) / 0.0001, abs=2)


def test_large_batches_alternate_with_decodes_alone_when_that_carries_more() -> None:
    small = Coefficients(0.030, 0.0001, 0.0, 0.0, 0.0, 0.0)  # 20 ms more than large batches
    settings = Settings(token_timing=TokenTiming.ENVELOPE, alternation=Alternation.PREDICTED)
    policy = NiyamaPolicy(LatencyModel(small, FLAT_MODEL.large, 512), settings)
    policy.add(chat("chat", 100, ttft_s=0.2), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 100_000), now_s)
    sizes, due_s = [], 0.25
    for _ in range(20):
        plan, now_s = serve(policy, now_s)
        sizes.append(sum(chunk.tokens for chunk in plan.chunks))
        assert now_s <= due_s
        due_s += 0.05
    assert set(sizes) == {0, 512}  # with the decode, 513 tokens are large: 61 ms; alone it has 30


def test_decodes_without_slack_leave_the_smallest_chunk() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("chat", 100), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("b", 10_000), now_s)
    assert policy.plan(now_s + 5.0, PLENTY).chunks[0].tokens == 128


def test_a_prefill_in_progress_is_parked_for_a_closer_deadline_and_resumed() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 10_000), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(chat("chat", 3_000, arrival_s=now_s), now_s)
    parked, now_s = serve(policy, now_s)
    assert parked.chunks == (Chunk("chat", 2560),)
    assert [(d.request_id, d.kind) for d in parked.decisions] == [("b", DecisionKind.PARKED)]
    resumed, _ = serve(policy, now_s)
    assert resumed.chunks == (Chunk("chat", 440), Chunk("b", 2120))
    assert resumed.decisions == ()


def test_without_parking_the_prefill_in_progress_continues() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(park=False))
    policy.add(batch("b", 10_000), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(chat("chat", 3_000, arrival_s=now_s), now_s)
    assert serve(policy, now_s)[0].chunks == (Chunk("b", 2560),)


def _overload(policy: NiyamaPolicy, *, important: bool) -> list[str]:
    """Half of the chats are small and half large: 10 s of prompts, due within 6 s."""
    for index in range(10):
        large = index % 2 == 1
        size = 15_000 if large else 3_000
        request = chat(f"{index}", size, importance="high" if important or large else "low")
        policy.add(request, 0.0)
    relegated, now_s = [], 0.0
    for _ in range(40):
        plan, now_s = serve(policy, now_s)
        relegated += [d.request_id for d in plan.decisions if d.kind is DecisionKind.RELEGATED]
    return relegated


def test_in_overload_the_largest_are_relegated_with_the_prediction_behind_it() -> None:
    relegated = _overload(NiyamaPolicy(FLAT_MODEL), important=True)
    assert relegated
    assert all(int(name) % 2 for name in relegated)


def test_low_importance_is_relegated_before_size_counts() -> None:
    relegated = _overload(NiyamaPolicy(FLAT_MODEL), important=False)
    assert relegated[0] in {"0", "2", "4", "6", "8"}


def test_without_importance_only_size_counts() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(low_importance_weight=1.0))
    assert all(int(name) % 2 for name in _overload(policy, important=False))


def test_a_request_that_is_too_late_is_relegated_with_reason_and_still_served_last() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("hopeless", 2_000, ttft_s=0.1), 0.0)
    policy.add(batch("b", 2_000), 0.0)
    plan = policy.plan(0.0, PLENTY)
    assert plan.chunks == (Chunk("b", 2_000), Chunk("hopeless", 560))
    (decision,) = plan.decisions
    assert (decision.kind, decision.reason) == (DecisionKind.RELEGATED, "too late to be met")
    # After the batch prompt; its own 2,000 tokens come on top.
    forecast = decision.forecast
    assert forecast is not None
    assert 0.2 < forecast.queue_wait_s < 1.0
    assert 0.2 < forecast.finish_s - forecast.queue_wait_s < 0.4


def test_a_short_batch_deadline_is_not_given_up_for_a_guessed_answer_length() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 2_000, ttlt_s=10.0), 0.0)
    plan = policy.plan(0.0, PLENTY)
    assert plan.chunks == (Chunk("b", 2_000),)
    assert plan.decisions == ()


def test_a_relegated_request_that_starts_in_time_is_restored() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for index in range(4):
        policy.add(
            batch(f"{index}", 80_000, ttlt_s=100.0, importance="high" if index else "low"), 0.0
        )
    reported: list[tuple[str, DecisionKind]] = []
    now_s = 0.0
    for _ in range(3):
        plan, now_s = serve(policy, now_s)
        reported += [(d.request_id, d.kind) for d in plan.decisions]
    assert ("0", DecisionKind.RELEGATED) in reported
    for index in range(1, 4):
        policy.abort(f"{index}")
    plan, _ = serve(policy, now_s)
    assert [chunk.request_id for chunk in plan.chunks] == ["0"]
    assert [(d.request_id, d.kind) for d in plan.decisions] == [("0", DecisionKind.RESTORED)]


def test_a_prompt_waits_for_memory_and_smaller_work_in_progress_continues() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("first", 4_000), 0.0)
    _, now_s = serve(policy, 0.0, free=5_000)
    policy.add(batch("second", 4_000, ttlt_s=300.0), now_s)
    plan = policy.plan(now_s, 5_000 - 2_560)
    assert plan.chunks == (Chunk("first", 1_440),)


def test_behind_a_prompt_that_finds_no_room_smaller_ones_are_planned() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("large", 4_000, ttlt_s=300.0), 0.0)
    policy.add(batch("small", 400), 0.0)
    policy.add(batch("also small", 400), 0.0)
    assert _names(policy.plan(0.0, 900)) == ["also small", "small"]


@pytest.mark.parametrize(
    ("sizes", "free", "full"),
    [
        ([1_280, 1_280], PLENTY, False),
        ([1_280, 1_281], PLENTY, True),
        ([2_560, 1], PLENTY, True),
        ([5] * 20, PLENTY, False),
        ([5] * 21, PLENTY, True),
        ([500, 600], 1_000, True),
    ],
)
def test_a_plan_is_full_when_prompts_are_left_out_whatever_limited_it(
    sizes: list[int], free: int, full: bool
) -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for number, tokens in enumerate(sizes):
        policy.add(batch(f"{number:02d}", tokens), 0.0)
    assert policy.plan(0.0, free).full is full


def test_after_half_of_its_time_memory_gathers_for_a_prompt_that_found_no_room() -> None:
    policy = NiyamaPolicy(FLAT_MODEL, Settings(ttft_reserve=0.25))
    policy.add(chat("large", 4_000, ttft_s=8.0), 0.0)  # due after 6 s
    policy.add(batch("small", 400), 0.0)
    assert _names(policy.plan(2.9, 900)) == ["small"]
    policy.observe(IterationResult(3.1, 0.0, chunks=()))
    assert _names(policy.plan(3.1, 900)) == []


def test_no_prompt_loses_its_memory_for_one_that_finds_too_little_even_so() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 4_000), 0.0)
    _, now_s = serve(policy, 0.0, free=5_000)
    policy.add(chat("chat", 6_000, arrival_s=now_s), now_s)
    plan = policy.plan(now_s, 2_440)
    assert plan.reclaim_kv == ()
    assert _names(plan) == ["b"]


def _names(plan: IterationPlan) -> list[str]:
    return [chunk.request_id for chunk in plan.chunks]


def test_a_parked_batch_prompt_loses_its_memory_to_a_chat_and_starts_over() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 4_000), 0.0)
    _, now_s = serve(policy, 0.0, free=5_000)
    policy.add(chat("chat", 3_000, arrival_s=now_s), now_s)
    plan, now_s = serve(policy, now_s, free=2_440)
    assert plan.reclaim_kv == ("b",)
    assert plan.chunks[0].request_id == "chat"
    assert DecisionKind.RECLAIMED in {d.kind for d in plan.decisions}
    serve(policy, now_s, free=2_440)  # the chat's prompt is done
    plan, _ = serve(policy, now_s + 1.0, free=5_000)
    assert plan.chunks[0] == Chunk("b", min(plan.chunks[0].tokens, 4_000))


def test_under_load_tokens_are_shown_at_an_even_pace() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for index in range(40):
        policy.add(batch(f"b{index}", 20_000, ttlt_s=280.0), 0.0)  # 80 s of work and more
    policy.add(chat("chat", 100), 0.0)
    plan = policy.plan(0.0, PLENTY)
    releases = policy.observe(IterationResult(plan.predicted_s, plan.predicted_s, plan.chunks))
    assert list(releases) == ["chat"]
    release = releases["chat"]
    assert release.pace_s == 0.05
    assert plan.predicted_s < release.first_s <= 5.9


def test_without_load_tokens_are_shown_immediately() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("chat", 100), 0.0)
    plan = policy.plan(0.0, PLENTY)
    assert not policy.observe(IterationResult(plan.predicted_s, plan.predicted_s, plan.chunks))


def test_an_aborted_request_is_never_planned_again() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("waiting", 1_000), 0.0)
    policy.add(batch("started", 9_000, ttlt_s=100.0), 0.0)
    _, now_s = serve(policy, 0.0)
    for name in ("waiting", "started", "unknown"):
        policy.abort(name)
    assert policy.plan(now_s, PLENTY).chunks == ()
    assert policy.backlog_s() == pytest.approx(0)


def test_a_prompt_that_the_engine_did_not_take_waits_again() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("b", 1_000), 0.0)
    planned = policy.plan(0.0, PLENTY).chunks
    policy.observe(IterationResult(0.1, 0.1, chunks=()))
    assert policy.plan(0.1, PLENTY).chunks == planned


def test_a_wrong_predictor_is_corrected() -> None:
    policy = NiyamaPolicy(FLAT_MODEL.scaled(0.8), Settings(token_timing=TokenTiming.GAPS))
    policy.add(chat("chat", 100), 0.0)
    policy.add(batch("b", 500_000, ttlt_s=5_000), 0.0)
    now_s = 0.0
    for _ in range(220):
        plan = policy.plan(now_s, PLENTY)
        tokens = sum(chunk.tokens for chunk in plan.chunks)
        duration_s = FLAT_MODEL.iteration_s(tokens, 0, 1, 0)
        now_s += duration_s
        policy.observe(IterationResult(now_s, duration_s, plan.chunks))
    assert duration_s == pytest.approx(0.05 / 1.02, rel=0.01)


requests_st = st.lists(
    st.tuples(
        st.integers(1, 9_000),  # prompt tokens
        st.integers(1, 60),  # output tokens
        st.sampled_from([(0.5, 0.05), (6.0, 0.05), (60.0, None), (600.0, None)]),
        st.booleans(),
        st.floats(0, 2.0),  # seconds after the one before
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60)
@given(
    requests_st,
    st.sampled_from(list(TokenTiming)),
    st.sampled_from(list(Overload)),
    st.sampled_from([12_000, 30_000, 1_000_000]),
    st.booleans(),
)
def test_everything_is_served_and_no_limit_is_broken(
    items: list[tuple[int, int, tuple[float, float | None], bool, float]],
    timing: TokenTiming,
    overload: Overload,
    kv_tokens: int,
    overlap: bool,
) -> None:
    """The simulator raises on chunks that no engine can run and on overrun memory."""
    from workers.simulator.laws import Law, linear, noise
    from workers.simulator.replica import Replica
    from workers.simulator.workload import SimRequest

    policy = NiyamaPolicy(FLAT_MODEL, Settings(token_timing=timing, overload=overload))
    law = Law("flat", linear(FLAT_MODEL), kv_tokens, "worked arithmetic", (noise(0.03),))
    replica = Replica(policy, law, overlap=overlap, seed=3)
    now_s = 0.0
    for index, (prompt, output, (target_s, tbt_s), important, gap_s) in enumerate(items):
        now_s += gap_s
        request = either(
            f"{index:02d}",
            prompt,
            arrival_s=now_s,
            target_s=target_s,
            tbt_s=tbt_s,
            importance="high" if important else "low",
        )
        replica.run_until(now_s)
        replica.submit(SimRequest(request, output, 0))
    replica.run_until(now_s + 3_600)
    assert len(replica.outcomes) == len(items)
    assert replica.engine.memory.held_tokens == 0
    assert policy.backlog_s() == pytest.approx(0, abs=1e-6)


@settings(max_examples=30)
@given(st.permutations(range(12)))
def test_the_plan_does_not_depend_on_the_order_of_arrival_calls(order: list[int]) -> None:
    policy, reference = NiyamaPolicy(FLAT_MODEL), NiyamaPolicy(FLAT_MODEL)
    requests = [chat(f"{i:02d}", 100 + 40 * i, ttft_s=2.0 + i % 3) for i in range(12)]
    for index in order:
        policy.add(requests[index], 0.0)
    for request in requests:
        reference.add(request, 0.0)
    assert policy.plan(0.0, PLENTY).chunks == reference.plan(0.0, PLENTY).chunks


def test_a_cached_prefix_needs_memory_too_while_its_request_runs() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("first", 500), 0.0)
    policy.add(replace(batch("b", 1_000, ttlt_s=900.0), cached_tokens=900), 0.0)
    assert policy.plan(0.0, 1_400).chunks == (Chunk("first", 500),)
    other = NiyamaPolicy(FLAT_MODEL)
    other.add(batch("first", 500), 0.0)
    other.add(replace(batch("b", 1_000, ttlt_s=900.0), cached_tokens=900), 0.0)
    assert other.plan(0.0, 1_500).chunks == (Chunk("first", 500), Chunk("b", 100))


@pytest.mark.parametrize("tbt_s", [0.1, 0.001])
def test_a_chat_that_wants_its_tokens_fast_makes_no_other_yield(tbt_s: float) -> None:
    """Each decode counts at its own pace, and none at one that the device cannot have."""
    policy, now_s = NiyamaPolicy(A100_LLAMA3_8B.latency), 0.0
    for number in range(60):
        policy.add(batch(f"b{number}", 200), now_s)
    policy.add(chat("fast", 200, tbt_s=tbt_s), now_s)
    while policy.decodes < 61:
        _, now_s = serve(policy, now_s)
    for number in range(5):
        policy.add(chat(f"c{number}", 400, arrival_s=now_s, ttft_s=3.0, tbt_s=0.1), now_s)
        policy.add(batch(f"s{number}", 60, arrival_s=now_s, ttlt_s=6_000.0), now_s)
    plan, _ = serve(policy, now_s)
    assert plan.chunks[0].request_id == "c0"
    assert not any(decision.kind is DecisionKind.RELEGATED for decision in plan.decisions)


def _memory_bound_after(free_kv_tokens: int) -> NiyamaPolicy:
    """A minute of plans beside a running answer, and more prompts than can be computed."""
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("answer", 100, ttlt_s=9_000.0), 0.0)
    _, now_s = serve(policy, 0.0)
    for number in range(300):
        policy.add(batch(f"{number:03}", 5_000, arrival_s=now_s, ttlt_s=9_000.0), now_s)
    for _ in range(600):
        plan = policy.plan(now_s, free_kv_tokens)
        now_s += 0.1
        policy.observe(IterationResult(now_s, 0.1, plan.chunks))
    return policy


def test_where_memory_keeps_prompts_out_a_small_one_goes_before_one_that_is_due_earlier() -> None:
    policy = _memory_bound_after(free_kv_tokens=4_000)
    policy.add(batch("large", 3_000, arrival_s=60.0, ttlt_s=600.0), 60.0)
    policy.add(batch("small", 500, arrival_s=60.0, ttlt_s=605.0), 60.0)
    assert policy.plan(60.0, 3_600).chunks[0].request_id == "small"


def test_where_time_keeps_prompts_out_the_earliest_due_goes_first() -> None:
    policy = _memory_bound_after(free_kv_tokens=PLENTY)
    now_s = 70.0
    policy.add(batch("large", 3_000, arrival_s=now_s, ttlt_s=300.0), now_s)
    policy.add(batch("small", 500, arrival_s=now_s, ttlt_s=305.0), now_s)
    assert policy.plan(now_s, PLENTY).chunks[0].request_id == "large"


def test_one_prompt_without_room_is_no_lack_of_memory_while_others_fill_the_time() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("answer", 100, ttlt_s=9_000.0), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("huge", 50_000, arrival_s=now_s, ttlt_s=8_000.0), now_s)
    for number in range(300):
        policy.add(batch(f"{number:03}", 5_000, arrival_s=now_s, ttlt_s=9_000.0), now_s)
    computed: Counter[str] = Counter()
    finished: tuple[str, ...] = ()
    for _ in range(600):
        plan = policy.plan(now_s, 40_000)
        now_s += 0.1
        policy.observe(IterationResult(now_s, 0.1, plan.chunks, finished))
        computed.update({chunk.request_id: chunk.tokens for chunk in plan.chunks})
        finished = tuple(c.request_id for c in plan.chunks if computed[c.request_id] == 5_000)
    policy.add(batch("large", 3_000, arrival_s=now_s, ttlt_s=300.0), now_s)
    policy.add(batch("small", 500, arrival_s=now_s, ttlt_s=305.0), now_s)
    assert policy.plan(now_s, 40_000).chunks[0].request_id == "large"


def test_a_lack_of_memory_is_forgotten_while_there_is_none() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(batch("answer", 100, ttlt_s=9_000.0), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(batch("huge", 50_000, arrival_s=now_s, ttlt_s=9_000.0), now_s)
    while now_s < 60.0:
        _, now_s = serve(policy, now_s, free=40_000)
    policy.abort("huge")
    finished: tuple[str, ...] = ()
    while now_s < 400.0:
        policy.add(batch(f"{now_s}", 500, arrival_s=now_s, ttlt_s=60.0), now_s)
        plan, now_s = serve(policy, now_s, finished=finished)
        finished = tuple(chunk.request_id for chunk in plan.chunks)
    policy.add(batch("large", 3_000, arrival_s=now_s, ttlt_s=300.0), now_s)
    policy.add(batch("small", 500, arrival_s=now_s, ttlt_s=305.0), now_s)
    assert policy.plan(now_s, PLENTY).chunks[0].request_id == "large"


def test_a_plan_has_no_more_prompts_than_the_engine_takes() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for name in "abc":
        policy.add(chat(name, 50), 0.0)
    plan = policy.plan(0.0, PLENTY, most_prompts=2)
    assert [chunk.request_id for chunk in plan.chunks] == ["a", "b"]
    assert plan.full
    policy.observe(IterationResult(0.1, 0.1, plan.chunks))
    assert policy.plan(0.1, PLENTY, most_prompts=0).chunks == ()
