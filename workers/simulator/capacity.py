"""Capacity of one policy, and how many replicas a load needs."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from workers.simulator.experiment import Experiment
from workers.simulator.summary import Summary

_MOST_QPS = 1_000.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas that serve some tiers: their share of the load, and requests/s of one replica."""

    name: str
    share: float
    capacity_qps: float
    runs: tuple[Summary, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    policy: str
    pools: tuple[Pool, ...]

    @property
    def qps_per_gpu(self) -> float:
        """Requests per second of the whole load that one replica carries, pools in proportion."""
        if any(pool.capacity_qps == 0 for pool in self.pools):
            return 0.0
        return 1 / sum(pool.share / pool.capacity_qps for pool in self.pools)

    def as_dict(self) -> dict[str, object]:
        return {"qps_per_gpu": self.qps_per_gpu, **asdict(self)}


def capacity_of(experiment: Experiment, policy: str, scoring: str) -> Capacity:
    """Search the capacity of each pool; only `silo` has more than one."""
    pools = []
    for name, pool, pool_policy, share in _pools(experiment, policy):
        capacity, runs = find_capacity(_runner(pool, pool_policy), scoring)
        pools.append(Pool(name, share, capacity / experiment.replicas, tuple(runs)))
    return Capacity(policy, tuple(pools))


def gpus_for(qps: float, capacity: Capacity) -> int | None:
    """Replicas for a load, each pool rounded up; None when no number is enough."""
    if capacity.qps_per_gpu == 0:
        return None
    return sum(math.ceil(qps * pool.share / pool.capacity_qps - 1e-9) for pool in capacity.pools)


def find_capacity(
    run: Callable[[float], Summary],
    scoring: str,
    *,
    low: float = 0.0,
    high: float = 0.0,
    resolution: float = 0.01,
) -> tuple[float, list[Summary]]:
    """The highest rate whose run meets `scoring`, to a relative `resolution`; with all runs made.

    Without a bracket, rates double from 0.25 requests/s until one fails. 0 when even `low` fails.
    """
    runs: list[Summary] = []

    def fits(qps: float) -> bool:
        runs.append(run(qps))
        return runs[-1].meets(scoring)

    if not high:
        low, high = 0.0, 0.25
        while fits(high):
            low, high = high, 2 * high
            if high > _MOST_QPS:
                return low, runs
        if not low:
            return 0.0, runs
    elif not fits(low):
        return 0.0, runs
    elif fits(high):
        return high, runs
    while high - low > resolution * low:
        middle = (low + high) / 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low, runs


def _runner(experiment: Experiment, policy: str) -> Callable[[float], Summary]:
    return lambda qps: experiment.run(policy, qps)


def _pools(experiment: Experiment, policy: str) -> list[tuple[str, Experiment, str, float]]:
    """(name, experiment, policy, share of the load) of each pool.

    Silo: interactive tiers with chunk 256, batch tiers with chunk 2048, first come first served.
    """
    if policy != "silo":
        return [("all", experiment, policy, 1.0)]
    interactive = tuple(tier for tier in experiment.tiers if tier.tbt_s is not None)
    batch = tuple(tier for tier in experiment.tiers if tier.tbt_s is None)
    pools = (("interactive", interactive, "fcfs"), ("batch", batch, "fcfs-2048"))
    return [
        (name, replace(experiment, tiers=tiers), fixed, len(tiers) / len(experiment.tiers))
        for name, tiers, fixed in pools
        if tiers
    ]
