"""GPUs that a day needs: a pool for each kind of request against one fleet for all.

Each pool is sized in whole GPUs for the busiest hour of its own tiers, by what a replica carries
(`busy_hour`; batch pools are credited with the throughput limit). Over the day a tier's rate
follows a cosine around its mean, which is assumed: no public trace of requests is a day long.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TIERS = 3
"""The first is interactive, the others are batch."""
SWING = 0.6
"""A tier has 1.6 times its mean rate at its peak, 0.4 times at the bottom."""
FIRST_PEAK_HOUR = 10.0
HOURS_APART = (0.0, 4.0, 8.0)
"""Between the peaks of one tier and the next; 8 spreads three evenly."""
FLEETS_QPS = (4.0, 10.0, 35.0)
"""Mean requests/s of the day, all tiers together; each has an equal share."""
_STEPS = 96
"""The busiest hour is looked for in quarters of an hour."""

Needs = Callable[[float], float]
"""Replicas that a pool is fully used with, at an hour of the day."""


@dataclass(frozen=True, slots=True)
class Capacities:
    """Requests/s that one replica carries for hours, by what it serves."""

    interactive: float
    """Of one tier, by the best policy."""
    batch: float
    """Of two tiers; no more than the throughput limit, and no less is assumed."""
    shared: float
    """All tiers, equal shares."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Whole GPUs of each way to run a fleet, for the same load."""

    three_silos: int
    two_silos: int
    shared: int
    resized_silos: float
    """Mean over the day of the better silos, when each hour has the GPUs that it needs."""
    resized_shared: float

    @property
    def fewer(self) -> float:
        """Share of the GPUs of the better silos that the shared fleet does without."""
        return 1 - self.shared / min(self.two_silos, self.three_silos)


def rate(tier: int, hour: float, hours_apart: float) -> float:
    """As a multiple of the tier's mean over the day."""
    peak_hour = FIRST_PEAK_HOUR + tier * hours_apart
    return 1 + SWING * math.cos(2 * math.pi * (hour - peak_hour) / 24)


def sizes(capacities: Capacities, mean_qps: float, hours_apart: float) -> Sizes:
    two, three, shared = pools(capacities, mean_qps, hours_apart)
    return Sizes(
        three_silos=_fixed(three),
        two_silos=_fixed(two),
        shared=_fixed(shared),
        resized_silos=min(_resized(two), _resized(three)),
        resized_shared=_resized(shared),
    )


def pools(
    capacities: Capacities, mean_qps: float, hours_apart: float
) -> tuple[Sequence[Needs], Sequence[Needs], Sequence[Needs]]:
    """Of two silos, of three, and of the shared fleet."""

    def qps(tier: int, hour: float) -> float:
        return mean_qps / TIERS * rate(tier, hour, hours_apart)

    def of_tier(tier: int, capacity_qps: float) -> Needs:
        return lambda hour: qps(tier, hour) / capacity_qps

    def batch(hour: float) -> float:
        return sum(qps(tier, hour) for tier in range(1, TIERS)) / capacities.batch

    def shared(hour: float) -> float:
        first = qps(0, hour)
        total = sum(qps(tier, hour) for tier in range(TIERS))
        return total * _shared_s(capacities, first / total, 1 / TIERS)

    interactive = of_tier(0, capacities.interactive)
    alone = [of_tier(tier, capacities.batch) for tier in range(1, TIERS)]
    return (interactive, batch), (interactive, *alone), (shared,)


def _shared_s(capacities: Capacities, interactive: float, measured: float) -> float:
    """Replica seconds per request, for a share of interactive requests.

    Above the share that was measured, between that and a silo of interactive requests alone; below
    it no less than measured. Both favour the silos.
    """
    measured_s, alone_s = 1 / capacities.shared, 1 / capacities.interactive
    excess = max(0.0, interactive - measured) / (1 - measured)
    return measured_s + excess * max(0.0, alone_s - measured_s)


def _fixed(needs: Sequence[Needs]) -> int:
    """Each pool has whole GPUs for its own busiest hour."""
    return sum(_whole(max(need(24 * step / _STEPS) for step in range(_STEPS))) for need in needs)


def _resized(needs: Sequence[Needs]) -> float:
    """Each pool has whole GPUs for each hour of the clock; the mean over the day."""
    per_hour = _STEPS // 24
    total = 0
    for need in needs:
        for hour in range(24):
            steps = range(hour * per_hour, (hour + 1) * per_hour + 1)
            total += _whole(max(need(24 * step / _STEPS) for step in steps))
    return total / 24


def _whole(replicas: float) -> int:
    return max(1, math.ceil(replicas - 1e-9))
