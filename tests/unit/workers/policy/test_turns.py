"""Prompts and decodes that cannot share an iteration, by worked arithmetic."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, SLOW_MIX_MODEL, batch, chat
from workers.latency.fit import Sample
from workers.latency.model import Coefficients, LatencyModel
from workers.policy.batch import PrefillBatch
from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad, MostUrgent
from workers.policy.memory import Memory
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Prefill, Request
from workers.policy.settings import Settings, TokenTiming
from workers.policy.time_limit import Situation
from workers.policy.turns import Limit, are_faster_apart, between_decodes

PLENTY = 1_000_000
GAPS = Settings(token_timing=TokenTiming.GAPS)

# ---- how long prompts have between two turns of the decodes

TEN_DECODES = Situation(
    now_s=100.0,
    decodes=DecodeLoad(10, 1000),  # 11 ms in an iteration of their own
    urgent=MostUrgent(100.6, 0.05, 60.0),  # 60 ms from turn to turn: 50, and a 60th of the slack
    gap_due_s=float("inf"),
    waiting_work=5000.0,
    prefill_context=0,
    decoded_s=100.0,
)


def test_prompts_have_what_the_decodes_leave_of_their_turn() -> None:
    limit = between_decodes(TEN_DECODES, Calibration(FLAT_MODEL), Settings())
    assert limit == Limit(pytest.approx(0.060 - 0.011), 128)


def test_more_prompts_follow_while_that_lasts() -> None:
    """The smallest iteration worth its fixed cost has 128 tokens and takes 22.8 ms."""
    later = TEN_DECODES._replace(now_s=100.025, decodes_wait=True)
    limit = between_decodes(later, Calibration(FLAT_MODEL), Settings())
    assert limit == Limit(pytest.approx(0.060 - 0.025 - 0.011), 0)


def test_then_it_is_the_decodes_turn() -> None:
    later = TEN_DECODES._replace(now_s=100.027, decodes_wait=True)
    assert between_decodes(later, Calibration(FLAT_MODEL), Settings()) == Limit(0.0, 0)


def test_without_slack_prompts_have_their_minimum_once_a_turn() -> None:
    late = TEN_DECODES._replace(urgent=MostUrgent(99.0, 0.05, 60.0))
    assert between_decodes(late, Calibration(FLAT_MODEL), Settings()).min_tokens == 128
    waiting = late._replace(decodes_wait=True)
    assert between_decodes(waiting, Calibration(FLAT_MODEL), Settings()) == Limit(0.0, 0)


def test_a_turn_lasts_as_long_on_a_slow_device_where_decodes_need_more_of_it() -> None:
    calibration = Calibration(FLAT_MODEL)
    calibration.observe(Sample(100, 0, 0, 0, 2 * 0.020))
    later = TEN_DECODES._replace(now_s=100.010)
    limit = between_decodes(later, calibration, Settings())
    assert limit.time_s == pytest.approx(0.060 - 0.010 - 2 * 0.011)


def test_however_much_slack_there_is_a_turn_is_no_longer_than_a_full_chunk() -> None:
    relaxed = TEN_DECODES._replace(urgent=MostUrgent(4_000.0, 0.1, 60.0))
    limit = between_decodes(relaxed, Calibration(FLAT_MODEL), Settings())
    assert limit.time_s == pytest.approx(0.266)
    later = relaxed._replace(now_s=100.2, decodes_wait=True)
    limit = between_decodes(later, Calibration(FLAT_MODEL), Settings())
    assert limit.time_s == pytest.approx(0.066)


def test_turns_are_tried_a_bounded_number_of_times_whether_they_are_measured_or_not() -> None:
    """With data parallel attention other ranks decide whether an iteration says anything."""
    calibration, trials = Calibration(FLAT_MODEL), 0
    for _ in range(1_000):
        if calibration.should_try_decodes_alone():
            calibration.tries_decodes_alone()
            trials += 1
        calibration.observe(Sample(128, 0, 1, 100, FLAT_MODEL.iteration_s(128, 0, 1, 100)))
    assert trials == 32


def test_without_decodes_there_is_no_turn_to_wait_for() -> None:
    alone = TEN_DECODES._replace(decodes=DecodeLoad(0, 0), urgent=None)
    assert between_decodes(alone, Calibration(FLAT_MODEL), Settings()).time_s == float("inf")


# ---- whether they are faster apart


@pytest.mark.parametrize(("context", "apart"), [(200, False), (210, True)])
def test_they_are_faster_apart_where_mixing_costs_more_than_another_iteration(
    context: int, apart: bool
) -> None:
    """Apart, 500 tokens and a decode take 60 and 10.1 ms: together they may take 15% more."""
    assert are_faster_apart(500, 0, DecodeLoad(1, context), SLOW_MIX_MODEL) is apart


def test_where_mixing_costs_nothing_they_are_not() -> None:
    assert not are_faster_apart(500, 0, DecodeLoad(10, 100_000), FLAT_MODEL)


def test_without_decodes_there_is_nothing_to_take_apart() -> None:
    assert not are_faster_apart(500, 0, DecodeLoad(0, 0), SLOW_MIX_MODEL)


# ---- what the policy makes of it


def unmixed(request: Request) -> Request:
    return replace(request, prompt_mixes=False, decode_mixes=False)


class Engine:
    """Runs plans on virtual time, with decodes left out where a request cannot mix."""

    def __init__(self, *requests: Request) -> None:
        self.policy = NiyamaPolicy(FLAT_MODEL, GAPS)
        self.now_s = 0.0
        self.requests: dict[str, Request] = {}
        self.decoding: set[str] = set()
        self.computed: dict[str, int] = {}
        self.decoded_s: list[float] = []
        self.plans: list[dict[str, int]] = []
        for request in requests:
            self.add(request)

    def add(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.computed[request.request_id] = 0
        self.policy.add(request, self.now_s)

    def step(self) -> dict[str, int]:
        plan = self.policy.plan(self.now_s, PLENTY)
        chunks = {chunk.request_id: chunk.tokens for chunk in plan.chunks}
        mixed = all(self.requests[name].prompt_mixes for name in chunks)
        mixed &= all(self.requests[name].decode_mixes for name in self.decoding)
        mixed &= not plan.decodes_wait
        decodes = len(self.decoding) if mixed or not chunks else 0
        duration_s = FLAT_MODEL.iteration_s(sum(chunks.values()), 0, decodes, 0)
        assert plan.predicted_s == pytest.approx(duration_s)
        self.now_s += duration_s
        if decodes:
            self.decoded_s.append(self.now_s)
        result = IterationResult(self.now_s, duration_s, plan.chunks, decoded=decodes > 0)
        self.policy.observe(result)
        for name, tokens in chunks.items():
            self.computed[name] += tokens
            if self.computed[name] == self.requests[name].prompt_tokens:
                self.decoding.add(name)
        self.plans.append(chunks)
        return chunks

    @property
    def is_done(self) -> bool:
        """Every prompt is computed."""
        return len(self.decoding) == len(self.requests)


def test_a_chat_that_cannot_mix_has_its_tokens_between_the_prompts() -> None:
    engine = Engine(unmixed(chat("chat", 100, tbt_s=0.1)), batch("long", 20_000))
    engine.step()  # both, as nothing decodes yet
    sizes = [sum(engine.step().values()) for _ in range(40)]
    assert sizes[0] > 500
    assert all(bool(before) != bool(after) for before, after in pairwise(sizes))
    assert max(b - a for a, b in pairwise(engine.decoded_s)) < 0.1


def test_a_prompt_that_cannot_mix_does_not_join_one_that_does() -> None:
    engine = Engine(chat("chat", 50, tbt_s=0.1))
    engine.step()
    for request in (chat("a", 60, tbt_s=0.1), unmixed(chat("b", 70, tbt_s=0.1))):
        engine.add(request)
    assert engine.step() == {"a": 60}
    assert engine.step() == {"b": 70}
    assert engine.step() == {}
    assert len(engine.decoded_s) == 2


def test_decodes_that_wait_are_left_out_of_further_prompts_as_planned() -> None:
    """The engine could compute them beside the second prompt, and that would take longer."""
    engine = Engine(*(chat(f"chat {n}", 50, tbt_s=0.2) for n in range(10)))
    engine.step()
    engine.add(replace(chat("first", 200, tbt_s=0.2), prompt_mixes=False))
    assert engine.step() == {"first": 200}
    engine.add(chat("second", 200, tbt_s=0.2))
    assert engine.step() == {"second": 200}
    assert not engine.decoded_s


def test_no_kv_is_reclaimed_for_a_prompt_when_it_is_the_decodes_turn() -> None:
    engine = Engine(unmixed(chat("chat", 50, tbt_s=0.1)), batch("long", 5000))
    while engine.computed["long"] < 3000:
        engine.step()
    engine.policy.add(chat("late", 4000, arrival_s=engine.now_s), engine.now_s)
    plan = engine.policy.plan(engine.now_s, 100)
    assert plan.chunks == ()
    assert plan.reclaim_kv == ()


def test_the_policy_keeps_decodes_out_where_they_are_faster_apart() -> None:
    policy = NiyamaPolicy(SLOW_MIX_MODEL, GAPS)
    now_s = carried_out(policy, chat("chat", 1000, tbt_s=0.1), now_s=0.0)
    policy.add(batch("long", 5000, arrival_s=now_s), now_s)
    plans, decoded_s = [], [now_s]
    while now_s < 1.5:
        plan = policy.plan(now_s, PLENTY)
        decodes = not plan.chunks
        assert plan.decodes_wait is not decodes
        now_s += plan.predicted_s
        policy.observe(IterationResult(now_s, plan.predicted_s, plan.chunks, decoded=decodes))
        plans.append(plan)
        decoded_s += [now_s] * decodes
    assert max(b - a for a, b in pairwise(decoded_s)) < 0.1
    assert sum(sum(chunk.tokens for chunk in plan.chunks) for plan in plans) == 5000


def carried_out(policy: NiyamaPolicy, request: Request, now_s: float) -> float:
    """Its prompt is computed, by itself; returns when."""
    policy.add(request, now_s)
    plan = policy.plan(now_s, PLENTY)
    end_s = now_s + plan.predicted_s
    policy.observe(IterationResult(end_s, plan.predicted_s, plan.chunks, decoded=False))
    return end_s


sizes = st.integers(1, 3000)
kinds = st.sampled_from(["mixes", "prompt", "decode", "neither"])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), sizes, kinds), min_size=1, max_size=12))
@example([(False, 1, "mixes"), (False, 2560, "prompt"), (False, 2560, "mixes")])
def test_decodes_are_never_starved_and_every_prompt_is_computed(
    wanted: list[tuple[bool, int, str]],
) -> None:
    """Two turns are at most a gap apart, or as long as the smallest turns of both take."""
    requests = []
    for number, (is_chat, tokens, kind) in enumerate(wanted):
        name = f"r{number}"
        request = chat(name, tokens, tbt_s=0.1) if is_chat else batch(name, tokens)
        mixes = {"prompt_mixes": kind in ("mixes", "decode"), "decode_mixes": kind != "neither"}
        requests.append(replace(request, **mixes))
    engine = Engine(*requests)
    for _ in range(700):
        if engine.is_done:
            break
        before_s, decoding = engine.now_s, bool(engine.decoding)
        engine.step()
        if decoding and any(requests[int(n[1:])].qos.limits_gaps for n in engine.decoding):
            waited_s = engine.now_s - engine.policy._decoded_s
            assert waited_s < 0.1 or engine.now_s - before_s <= 0.023 + 1e-9
    assert engine.is_done


# ---- a wrong belief


def test_a_wrong_belief_that_turns_are_faster_ends() -> None:
    """Prompts take three times what the profile says, so do those measured by themselves.

    Were that the error of all iterations with prompts in them, decodes would cost three times as
    much beside prompts as alone; and as long as turns are taken nobody sees that they do not.
    """
    regime = Coefficients(0.010, 0.0, 1e-4, 4e-4, 0.0, 0.0)
    law = LatencyModel(regime, regime, split_tokens=512)
    regime = replace(regime, prefill_token_s=regime.prefill_token_s / 3)
    policy = NiyamaPolicy(LatencyModel(regime, regime, split_tokens=512), GAPS)
    for ran in ((500, 0, 0, 0), (2000, 0, 0, 0), (0, 0, 60, 6000)):
        for _ in range(64):
            policy.measured(Sample(*ran, law.iteration_s(*ran)), full=False)
    now_s, shared = 0.0, []
    for number in range(60):
        policy.add(chat(f"chat {number}", 30, tbt_s=0.15), now_s)
    policy.add(batch("long", 900_000, ttlt_s=1e6), now_s)
    for _ in range(700):
        plan = policy.plan(now_s, PLENTY)
        tokens = sum(chunk.tokens for chunk in plan.chunks)
        decodes = DecodeLoad(0, 0) if plan.decodes_wait else policy._decodes.load
        duration_s = law.iteration_s(tokens, 0, *decodes)
        now_s += duration_s
        decoded = decodes.decodes > 0
        policy.observe(IterationResult(now_s, duration_s, plan.chunks, decoded=decoded))
        shared.append(decoded and tokens > 0)
    assert not any(shared[6:16]), "turns were never believed to be faster"
    assert all(shared[-40:])


def test_whether_to_share_an_iteration_is_found_out_at_light_load_too() -> None:
    """Most plans have no prompts, from which nothing can be found out."""
    policy = NiyamaPolicy(SLOW_MIX_MODEL, GAPS)
    now_s = carried_out(policy, batch("answer", 500, ttlt_s=9_000.0), now_s=0.0)
    shared = 0
    for number in range(600):
        if number % 3 == 0:
            policy.add(batch(f"{number}", 400, arrival_s=now_s), now_s)
        plan = policy.plan(now_s, PLENTY)
        decodes = not plan.decodes_wait
        shared += bool(plan.chunks) and decodes
        now_s += plan.predicted_s
        done = tuple(chunk.request_id for chunk in plan.chunks)
        policy.observe(IterationResult(now_s, plan.predicted_s, plan.chunks, done, decoded=decodes))
    assert shared >= 5


def test_a_batch_is_sized_by_what_the_way_it_runs_takes() -> None:
    """A token takes 0.2 ms beside a decode, and 0.1 ms between two turns of it."""
    decode = DecodeLoad(1, 100)

    def planned_tokens(*, beside: Limit | None) -> int:
        batch_of_one = PrefillBatch(
            FLAT_MODEL.scaled(2.0),
            FLAT_MODEL,
            decode,
            Memory(PLENTY, PLENTY),
            mixed=decode,
            beside=beside,
            between=Limit(0.060, 0),
            max_tokens=2_560,
        )
        batch_of_one.take(Prefill(batch("b", 5_000)))
        assert batch_of_one.predicted_s() == pytest.approx(0.060, abs=2e-4)
        return batch_of_one.chunks[0].tokens

    assert planned_tokens(beside=Limit(0.060, 0)) == pytest.approx(199, abs=1)
    assert planned_tokens(beside=None) == pytest.approx(500, abs=1)
