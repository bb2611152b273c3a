"""Decodes that verify drafts, simulated."""

import random
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niyama.errors import ConfigurationError
from tests.support.requests import FLAT_MODEL, either
from workers.policy.settings import Settings
from workers.simulator.drafts import DraftingEngine, Drafts
from workers.simulator.laws import Disturbance, Law, linear, noise
from workers.simulator.policies import drafting_policy
from workers.simulator.replica import Replica
from workers.simulator.settings import SimulateSettings
from workers.simulator.workload import SimRequest

ALL_RIGHT = Drafts(4.0, verified_tokens=4)
drafting = partial(drafting_policy, settings=Settings(), model=FLAT_MODEL, tokens=4)


def _replica(
    name: str = "niyama/gaps",
    drafts: Drafts = ALL_RIGHT,
    kv_tokens: int = 10_000,
    *disturbances: Disturbance,
    overlap: bool = False,
) -> Replica:
    law = Law("flat", linear(FLAT_MODEL), kv_tokens, "worked arithmetic", disturbances)
    policy, engine = drafting(name), DraftingEngine(kv_tokens, drafts)
    knows = policy.verified_tokens > 1
    return Replica(
        policy, law, overlap=overlap, engine=engine, accepted=policy.accepted if knows else None
    )


def _request(
    name: str, prompt: int, output: int, *, arrival_s: float = 0.0, tbt_s: float | None = 0.05
) -> SimRequest:
    return SimRequest(
        either(name, prompt, arrival_s=arrival_s, target_s=60.0, tbt_s=tbt_s), output, 0
    )


@pytest.mark.parametrize("overlap", [False, True])
def test_a_step_gives_as_many_tokens_as_are_right_and_costs_as_many_as_are_verified(
    *, overlap: bool
) -> None:
    replica = _replica(overlap=overlap)
    replica.submit(_request("a", 500, 10))
    replica.run_until(10.0)
    (outcome,) = replica.outcomes
    # One prompt of 500 tokens, then steps of 4, 4 and 1 tokens that verify 4 each.
    assert outcome.first_token_s == pytest.approx(0.060)
    assert outcome.last_token_s == pytest.approx(0.060 + 3 * 0.0104)
    assert outcome.gaps == 9
    assert replica.engine.memory.held_tokens == 0


def test_decodes_and_prompts_take_turns() -> None:
    replica = _replica()
    replica.submit(_request("chat", 100, 200))
    replica.run_until(0.02)
    replica.submit(_request("b", 5_000, 1, arrival_s=0.02, tbt_s=None))
    ran: list[tuple[bool, int]] = []
    replica.on_iteration = lambda each: ran.append((bool(each.chunk_tokens), each.decodes))
    replica.run_until(10.0)
    assert {(True, 0), (False, 1)} == set(ran)
    chat = next(o for o in replica.outcomes if o.sim.request.request_id == "chat")
    assert chat.late_gaps == 0


@pytest.mark.parametrize("mean", [1.0, 1.7, 2.5, 4.0])
def test_requests_differ_around_the_mean(mean: float) -> None:
    drafts, chance = Drafts(mean, verified_tokens=4), random.Random(1)
    shares = [drafts.acceptance(chance) for _ in range(2_000)]
    tokens = [1 + sum(share**i for i in range(1, 4)) for share in shares]
    assert sum(tokens) / len(tokens) == pytest.approx(mean, rel=0.03)
    assert (max(tokens) > min(tokens) + 1) == (1 < mean < 4)


@pytest.mark.parametrize(("policy", "tokens"), [("niyama", 2.5), ("niyama/no-drafts", 1.0)])
def test_a_policy_learns_what_steps_yield_unless_it_is_told_not_to(
    policy: str, tokens: float
) -> None:
    replica = _replica(policy, Drafts(2.5))
    for index in range(40):
        replica.submit(_request(f"{index:02d}", 100, 40))
    replica.run_until(100.0)
    assert len(replica.outcomes) == 40
    assert replica.policy.tokens_per_step == pytest.approx(tokens, rel=0.15)  # type: ignore[attr-defined]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 2_000), st.integers(1, 60), st.booleans()),
        min_size=1,
        max_size=15,
    ),
    st.sampled_from(["niyama", "niyama/gaps", "niyama/no-drafts"]),
    st.sampled_from([3_000, 40_000]),
    st.booleans(),
)
def test_everything_is_served_and_no_kv_is_left(
    items: list[tuple[int, int, bool]], policy: str, kv_tokens: int, overlap: bool
) -> None:
    replica = _replica(policy, Drafts(2.0), kv_tokens, noise(0.1), overlap=overlap)
    for index, (prompt, output, chat_) in enumerate(items):
        replica.run_until(index / 20)
        tbt_s = 0.05 if chat_ else None
        replica.submit(_request(f"{index:02d}", prompt, output, arrival_s=index / 20, tbt_s=tbt_s))
    replica.run_until(3_600.0)
    assert len(replica.outcomes) == len(items)
    assert replica.engine.memory.held_tokens == 0


def test_only_who_knows_of_drafts_plans_with_them() -> None:
    with pytest.raises(ConfigurationError, match="use --speculate with niyama"):
        drafting("edf")


def test_no_step_yields_more_than_it_verifies() -> None:
    with pytest.raises(ValueError, match="cannot be more than --draft-tokens"):
        SimulateSettings(trace=Path(__file__), speculate=5.0)
