"""Beyond capacity, where all requests cost the same."""

import random

from tests.support.requests import FLAT_MODEL, PLENTY, chat
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.ranking import SHARES, rank_of

TTFT_S, TOKENS, ARRIVALS_PER_S, WARM_UP_S, END_S = 6.0, 2_000, 12.0, 12.0, 36.0


def test_equal_requests_yield_in_parts_and_smaller_ones_later() -> None:
    large, small = ({rank_of(f"r{i}", work) for i in range(200)} for work in (2_000.0, 1_500.0))
    assert len(large) == len(small) == SHARES
    assert max(small) < min(large)


def test_their_capacity_goes_to_those_that_can_be_met() -> None:
    """To give up all that are alike, whenever there are too many, would leave them to be computed
    when they are nearly late."""
    policy, draw = NiyamaPolicy(FLAT_MODEL), random.Random(3)
    left: dict[str, int] = {}
    arrived_s: dict[str, float] = {}
    computed = in_time = 0
    now_s = next_s = 0.0
    while now_s < END_S:
        while next_s <= now_s:
            name = f"r{len(arrived_s)}"
            left[name], arrived_s[name] = TOKENS, next_s
            policy.add(chat(name, TOKENS, arrival_s=next_s, ttft_s=TTFT_S, tbt_s=0.1), now_s)
            next_s += draw.expovariate(ARRIVALS_PER_S)
        plan = policy.plan(now_s, PLENTY)
        now_s += plan.predicted_s or 0.02
        done = []
        for chunk in plan.chunks:
            left[chunk.request_id] -= chunk.tokens
            computed += chunk.tokens * (now_s > WARM_UP_S)
            if left[chunk.request_id] == 0:
                done.append(chunk.request_id)
                on_time = now_s - arrived_s[chunk.request_id] <= TTFT_S
                in_time += TOKENS * (on_time and now_s > WARM_UP_S)
        policy.observe(
            IterationResult(now_s, plan.predicted_s, plan.chunks, tuple(done), decoded=False)
        )
    assert in_time > 0.95 * computed
