"""What is told about tenants and about value."""

from array import array
from dataclasses import replace

import pytest

from tests.support.requests import batch
from workers.latency.profiles import A100_LLAMA3_8B
from workers.policy.settings import Settings
from workers.simulator.experiment import Experiment
from workers.simulator.fairness import jains_index
from workers.simulator.outcome import Outcome
from workers.simulator.summary import summarize
from workers.simulator.traces import Trace
from workers.simulator.workload import Lengths, SimRequest, Tier

TRACE = Trace("small", tuple(Lengths(400 + 40 * i, 20) for i in range(60)), None)
TIERS = (Tier.batch("batch", ttlt_s=20.0),)
FLOODED = Experiment(
    TRACE,
    A100_LLAMA3_8B,
    TIERS,
    duration_s=150.0,
    warm_up_s=30.0,
    tenants=(("flood", 8.0), ("a", 1.0), ("b", 1.0)),
)


def _outcome(tenant: str, prompt_tokens: int, *, met: bool, importance: str = "high") -> Outcome:
    request = batch("r", prompt_tokens, ttlt_s=10.0, tenant=tenant, importance=importance)
    outcome = Outcome(SimRequest(request, 0, 0))
    outcome.token_times.append(array("d", [5.0 if met else 50.0]))
    outcome.score()
    return outcome


def test_jains_index_is_of_the_parts_of_the_fair_shares() -> None:
    served = [_outcome("a", 100, met=True), _outcome("b", 300, met=True)]
    assert jains_index(served, {}) == 1.0  # who asks for less has less
    one_starves = [_outcome("a", 100, met=False), _outcome("b", 100, met=True)]
    assert jains_index(one_starves, {}) == pytest.approx(0.5)
    uneven = [_outcome("a", 300, met=True), _outcome("b", 200, met=False)]
    uneven.append(_outcome("b", 100, met=True))
    # 400 met; fair are 200 each: parts of 1.5 and 0.5.
    assert jains_index(uneven, {}) == pytest.approx(0.8)
    assert jains_index(uneven, {"a": 3.0}) == pytest.approx(1.0)
    assert jains_index([], {}) == 1.0


def test_value_is_by_the_weights_of_the_settings() -> None:
    outcomes = [_outcome("", 100, met=True), _outcome("", 100, met=False, importance="low")]
    settings = Settings(low_importance_weight=0.25)
    summary = summarize(outcomes, TIERS, policy="p", qps=1.0, window_s=1.0, settings=settings)
    assert summary.value_kept == pytest.approx(0.8)
    assert summary.missed == 0.5


def test_a_flood_is_at_the_cost_of_who_sends_it() -> None:
    fair = FLOODED.run("niyama", 9.0)
    assert fair.missed > 0.15
    assert fair.missed_by_tenant["a"] < 0.05 < 0.2 < fair.missed_by_tenant["flood"]
    assert fair.fairness > FLOODED.run("niyama/no-fairness", 9.0).fairness + 0.05


def test_a_tenant_alone_is_served_as_if_nobody_asked_for_fairness() -> None:
    alone = replace(FLOODED, tenants=(("one", 1.0),))
    fair, unfair = alone.run("niyama", 9.0), alone.run("niyama/no-fairness", 9.0)
    assert fair.missed_by_size == unfair.missed_by_size
    assert fair.missed_by_tenant == {"one": fair.missed}
