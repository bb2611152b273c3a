"""Requests/s that one replica of a pool carries in its busiest hour, bursts included.

A fleet deals its requests out at random, so one replica stands for all. Rates of the tiers rise
and fall by the bursts of a trace, each tier at another time.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from workers.policy.request import Request
from workers.simulator.capacity import find_capacity
from workers.simulator.experiment import Experiment
from workers.simulator.workload import SimRequest

BURST_S = 5.0
SCORED_S = 1_800.0
WARM_UP_S = 600.0
INTERACTIVE_CHUNKS = (256, 304, 352)
"""Silos of interactive requests have the best of these: their TBT bounds the chunk."""
LOADS = ("bursts", "smooth")
POOLS = {"Q1": 0.5, "all": 0.8}
"""Tiers of each pool, and where searches start, as a share of what all make of a replica.

There is none of batch tiers: their deadlines hide a backlog for as long as an hour lasts, so a
search finds more than a replica can compute. They are bounded by the throughput limit instead.
"""
_RESOLUTION = 0.03


@dataclass(frozen=True, slots=True)
class BusyHour(Experiment):
    """Requests of each tier come at a rate of its own."""

    shares: tuple[float, ...] = ()
    """Of each tier in the requests."""
    bursts: tuple[float, ...] = (1.0,)
    """Rates in successive intervals of `BURST_S` seconds, as multiples of the mean."""
    together: bool = False
    """All tiers have their bursts at the same time."""

    def requests(self, qps: float) -> list[SimRequest]:
        rng = random.Random(self.seed)
        arrivals = sorted(
            (time_s, tier)
            for tier, share in enumerate(self.shares)
            for time_s in self._times_s(tier, qps * share, rng)
        )
        requests = []
        for index, (time_s, tier) in enumerate(arrivals):
            size = rng.choice(self.trace.lengths)
            request = Request(f"{index:07d}", self.tiers[tier].qos(time_s), size.prompt_tokens)
            requests.append(SimRequest(request, size.output_tokens, tier))
        return requests

    def _times_s(self, tier: int, mean_qps: float, rng: random.Random) -> Iterator[float]:
        """A Poisson process whose rate follows the bursts."""
        offset = 0 if self.together else tier * len(self.bursts) // len(self.shares)
        for index in range(math.ceil(self.duration_s / BURST_S)):
            qps = mean_qps * self.bursts[(offset + index) % len(self.bursts)]
            end_s = (index + 1) * BURST_S
            now_s = index * BURST_S
            while qps > 0 and (now_s := now_s + rng.expovariate(qps)) < end_s:
                yield now_s

    def pool(self, names: Sequence[str]) -> "BusyHour":
        """Some of the tiers only, in the same proportions; what comes later needs no simulation."""
        kept = [index for index, tier in enumerate(self.tiers) if tier.name in names]
        tiers = tuple(self.tiers[index] for index in kept)
        total = sum(self.shares[index] for index in kept)
        return replace(
            self,
            tiers=tiers,
            shares=tuple(self.shares[index] / total for index in kept),
            duration_s=WARM_UP_S + SCORED_S + max(tier.target_s for tier in tiers),
        )


def busy_hour(
    experiment: Experiment, bursts: Sequence[float], *, together: bool = False
) -> BusyHour:
    """The experiment's trace, device and tiers, each an equal share of the requests."""
    tiers = experiment.tiers
    hour = BusyHour(
        experiment.trace,
        experiment.profile,
        tiers,
        warm_up_s=WARM_UP_S,
        seed=experiment.seed,
        shares=(1 / len(tiers),) * len(tiers),
        bursts=tuple(bursts),
        together=together,
    )
    return hour.pool([tier.name for tier in tiers])


def bursts_of(arrivals_s: Sequence[float]) -> tuple[float, ...]:
    """Arrivals in each interval of `BURST_S`, over their mean, as far as requests are scored."""
    counts = [0] * int(min(SCORED_S, arrivals_s[-1]) / BURST_S)
    for time_s in arrivals_s:
        index = int(time_s / BURST_S)
        if index < len(counts):
            counts[index] += 1
    mean = sum(counts) / len(counts)
    return tuple(count / mean for count in counts)


def pool_capacities(hour: BusyHour, pool: str, start_qps: float) -> dict[str, float]:
    """Requests/s of one replica of one of `POOLS`, by policy."""
    if pool == "all":
        return _capacities(hour, ["niyama"], start_qps)
    return _interactive_silo(hour.pool([pool]), start_qps)


def _capacities(hour: BusyHour, policies: Sequence[str], start_qps: float) -> dict[str, float]:
    """Requests/s with at most 1% missed in the worst tier, and 1% of gaps late, by policy."""
    found = {}
    for policy in policies:
        run = partial(hour.run, policy)
        qps, _ = find_capacity(
            run, "gaps", start_qps=start_qps, growth=1.15, resolution=_RESOLUTION
        )
        found[policy] = round(qps, 4)
        start_qps = qps or start_qps
    return found


def _interactive_silo(hour: BusyHour, start_qps: float) -> dict[str, float]:
    """First come first served with each chunk; other orders with the best chunk."""
    found = _capacities(hour, [f"fcfs-{chunk}" for chunk in INTERACTIVE_CHUNKS], start_qps)
    best = max(INTERACTIVE_CHUNKS, key=lambda chunk: found[f"fcfs-{chunk}"])
    others = [f"srpf-{best}", f"edf-shed-{best}"]
    return found | _capacities(hour, others, found[f"fcfs-{best}"])
