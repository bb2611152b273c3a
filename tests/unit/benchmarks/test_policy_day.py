"""GPUs for a day, by worked arithmetic."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.policy.busy_hour import BURST_S, BusyHour, bursts_of, busy_hour
from tests.benchmarks.policy.day import HOURS_APART, SWING, Capacities, pools, rate, sizes
from workers.latency.profiles import A100_LLAMA3_8B
from workers.simulator.experiment import Experiment
from workers.simulator.traces import Trace
from workers.simulator.workload import Lengths, SimRequest

ALIKE = Capacities(interactive=1.0, batch=1.0, shared=1.0)
"""Sharing gains nothing on a replica: what is left is peaks and whole GPUs."""


def _hour(*bursts: float) -> BusyHour:
    trace = Trace("t", (Lengths(100, 5),), None)
    return busy_hour(Experiment(trace, A100_LLAMA3_8B), bursts)


def test_fleets_of_tiers_that_peak_together_differ_by_rounding_alone() -> None:
    found = sizes(ALIKE, 12.0, hours_apart=0.0)
    # Each tier peaks at 4 * 1.6 = 6.4 requests/s, all of them at 19.2.
    assert (found.three_silos, found.two_silos, found.shared) == (3 * 7, 7 + 13, 20)
    assert found.fewer == 0.0


def test_a_shared_fleet_does_not_see_peaks_that_fall_into_others_valleys() -> None:
    found = sizes(ALIKE, 12.0, hours_apart=8.0)
    # Three cosines a third of a day apart cancel: 12 requests/s at every hour.
    assert (found.three_silos, found.shared) == (21, 12)


def test_silos_that_are_resized_need_the_load_of_each_hour() -> None:
    found = sizes(ALIKE, 1200.0, hours_apart=0.0)
    # An hour's highest rate is above its mean by half of what the rate changes in it: of the
    # three cosines on average 1200 * 0.6 * (2 pi / 24) * (2 / pi) / 2 = 60.
    assert found.resized_silos == pytest.approx(1260, rel=0.002)
    assert found.resized_silos == pytest.approx(found.resized_shared, rel=0.002)


def test_more_interactive_requests_than_measured_cost_the_shared_fleet_more() -> None:
    costly = Capacities(interactive=0.5, batch=1.0, shared=1.0)
    _, _, (shared,) = pools(costly, 3.0, hours_apart=8.0)
    # At its peak the first tier has 1.6 of 3 requests/s, 0.3 more of a share than a third.
    share = (1.6 / 3 - 1 / 3) / (2 / 3)
    assert shared(10.0) == pytest.approx(3.0 * (1 + share))
    assert shared(22.0) == pytest.approx(3.0)


@given(st.integers(0, 2), st.sampled_from(HOURS_APART))
def test_rates_are_their_mean_over_a_day(tier: int, hours_apart: float) -> None:
    rates = [rate(tier, hour / 4, hours_apart) for hour in range(96)]
    assert sum(rates) / 96 == pytest.approx(1.0)
    assert max(rates) == pytest.approx(1 + SWING)


def test_bursts_are_arrivals_in_each_interval_over_their_mean() -> None:
    first, third = 0.5 * BURST_S, 2.5 * BURST_S
    assert bursts_of([first, first, first, third, 3.5 * BURST_S]) == pytest.approx(
        (3 / (4 / 3), 0.0, 1 / (4 / 3))
    )


def test_requests_come_in_bursts_that_the_tiers_have_one_after_the_other() -> None:
    requests = _hour(2.0, 0.0, 1.0).requests(4.0)
    assert [_share(requests, tier) for tier in range(3)] == pytest.approx([1 / 3] * 3, abs=0.02)
    # Each tier is a third of the pattern ahead of the one before it.
    assert [_intervals(requests, tier) for tier in range(3)] == [{0, 2}, {1, 2}, {0, 1}]


def test_a_pool_runs_until_its_own_requests_are_decided() -> None:
    hour = _hour(1.0)
    assert hour.pool(["Q2", "Q3"]).shares == (0.5, 0.5)
    assert hour.pool(["Q2", "Q3"]).window_s == hour.window_s == (600.0, 2400.0)
    assert hour.pool(["Q1"]).duration_s == 2406.0


def _share(requests: Sequence[SimRequest], tier: int) -> float:
    return sum(sim.tier == tier for sim in requests) / len(requests)


def _intervals(requests: Sequence[SimRequest], tier: int) -> set[int]:
    """Of the three of the pattern, those in which it has requests."""
    times_s = (sim.request.qos.arrival_s for sim in requests if sim.tier == tier)
    return {int(time_s / BURST_S) % 3 for time_s in times_s}
