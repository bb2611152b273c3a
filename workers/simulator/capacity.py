"""Capacity of one policy, and how many replicas a load needs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, get_args

from workers.simulator.experiment import Experiment
from workers.simulator.silo import SILO, SiloPool, silo_pools
from workers.simulator.summary import Summary

Scoring = Literal["first", "envelope", "gaps"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)
"""Ways to score a run, see `Summary.meets`."""
_MIN_QPS, _MAX_QPS = 0.01, 1_000.0


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
    asked = [SiloPool("all", experiment, policy, 1.0)]
    pools = []
    for pool in silo_pools(experiment) if policy == SILO else asked:
        capacity, runs = find_capacity(partial(pool.experiment.run, pool.policy), scoring)
        per_replica = capacity / pool.experiment.replicas
        pools.append(Pool(pool.name, pool.share, per_replica, tuple(runs)))
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
    start_qps: float = 0.25,
    growth: float = 2.0,
    resolution: float = 0.01,
    known: Sequence[Summary] = (),
) -> tuple[float, list[Summary]]:
    """The highest rate whose run meets `scoring`, to a relative `resolution`; with all runs made.

    Continues from the `known` runs; without any from `start_qps`, by factors of `growth` until one
    run fits and one does not. 0 when none fits, however low the rate.
    """
    runs = list(known)
    while True:
        fitting, failing = _border(runs, scoring)
        if failing is None:
            qps = start_qps if fitting is None else fitting * growth
        elif fitting is None:
            qps = failing / growth
        elif failing - fitting <= resolution * fitting:
            return fitting, runs
        else:
            qps = (fitting + failing) / 2
        if not _MIN_QPS <= qps <= _MAX_QPS:
            return fitting or 0.0, runs
        runs.append(run(qps))


def _border(runs: Sequence[Summary], scoring: str) -> tuple[float | None, float | None]:
    """The highest rate that fits below the lowest that does not, and that."""
    failing = min((run.qps for run in runs if not run.meets(scoring)), default=None)
    fits = (run.qps for run in runs if run.meets(scoring))
    return max((qps for qps in fits if failing is None or qps < failing), default=None), failing
