"""A device where a token of a decode's context costs as much beside prompts as a prompt token.

A shared iteration may take fifty times as long as a turn: who has to try takes only a few.
"""

import pytest

from tests.support.requests import PLENTY, SLOW_MIX_MODEL, batch, chat
from workers.latency.learner import FIRST_GUESS, LatencyLearner
from workers.latency.model import LatencyModel
from workers.simulator.laws import Law, linear
from workers.simulator.policies import policy_factory
from workers.simulator.replica import Iteration, Replica
from workers.simulator.workload import SimRequest


def _served(model: LatencyModel, learner: LatencyLearner | None) -> tuple[int, int]:
    """Prompt tokens between 100 and 200 s, and iterations that were shared; 8 chats go on."""
    law = Law("slow mix", linear(SLOW_MIX_MODEL), PLENTY, "worked arithmetic")
    replica = Replica(policy_factory("niyama")(model), law, learner=learner)
    tokens, shared = 0, 0

    def count(ran: Iteration) -> None:
        nonlocal tokens, shared
        tokens += sum(ran.chunk_tokens) if replica.now_s > 100 else 0
        shared += bool(ran.chunk_tokens) and ran.decodes > 0

    replica.on_iteration = count
    for number in range(8):
        replica.submit(SimRequest(chat(f"chat {number}", 1_500, tbt_s=0.5), 2_000, 0))
    for number in range(250):
        replica.submit(SimRequest(batch(f"batch {number}", 8_000, ttlt_s=7_200), 50, 0))
    replica.run_until(200.0)
    return tokens, shared


def test_turns_cost_what_they_are_believed_to_cost() -> None:
    tokens, shared = _served(SLOW_MIX_MODEL, None)
    assert tokens == pytest.approx(100 / 0.00011, rel=0.1)
    assert shared <= 1


def test_who_does_not_know_the_device_learns_that_turns_are_faster() -> None:
    tokens, shared = _served(FIRST_GUESS, LatencyLearner())
    assert tokens >= 0.85 * _served(SLOW_MIX_MODEL, None)[0]
    assert shared <= 20
