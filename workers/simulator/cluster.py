"""Several replicas behind a router."""

import heapq
from collections.abc import Callable, Sequence

from workers.simulator.outcome import Outcome
from workers.simulator.replica import Replica
from workers.simulator.workload import SimRequest

Router = Callable[[SimRequest, Sequence[Replica]], int]
"""Chooses the replica of a request that arrives now."""


class RoundRobin:
    def __init__(self) -> None:
        self._next = -1

    def __call__(self, sim: SimRequest, replicas: Sequence[Replica]) -> int:
        self._next = (self._next + 1) % len(replicas)
        return self._next


class TierAware:
    """Requests that somebody waits for go to the first `interactive` replicas; others to the least
    loaded.

    Such a decode keeps the iterations of its whole replica short; packed together they do
    so on fewer replicas. Load is prompt tokens outstanding.
    """

    def __init__(self, interactive: int) -> None:
        self._interactive = interactive

    def __call__(self, sim: SimRequest, replicas: Sequence[Replica]) -> int:
        if sim.request.qos.is_interactive:
            allowed = range(self._interactive)
            return min(allowed, key=lambda i: (replicas[i].interactive_outstanding, i))
        return min(range(len(replicas)), key=lambda i: (replicas[i].outstanding_tokens, i))


def run_cluster(
    requests: Sequence[SimRequest],
    replicas: Sequence[Replica],
    router: Router,
    *,
    until_s: float,
    progress: Callable[[float], None] | None = None,
) -> list[Outcome]:
    """Serve the requests in arrival order; outcomes of all, finished or not by `until_s`.

    A call of a task makes the next one arrive. Of a task there is one outcome: that of its last
    call, or of the one that was not answered.
    """
    arrivals = [(sim.request.qos.arrival_s, sim.request.request_id, sim) for sim in requests]
    heapq.heapify(arrivals)
    served = 0
    while True:
        next_s = min(until_s, arrivals[0][0]) if arrivals else until_s
        if (behind := _furthest_behind(replicas, next_s)) is not None:
            for sim in behind.run_one(next_s):
                arrival = (sim.request.qos.arrival_s, sim.request.request_id, sim)
                heapq.heappush(arrivals, arrival)
            continue
        if next_s >= until_s:
            break
        _, _, sim = heapq.heappop(arrivals)
        for replica in replicas:
            replica.run_until(next_s)
        replicas[router(sim, replicas)].submit(sim)
        served += 1
        if progress is not None and served % 256 == 0:
            progress(next_s / until_s)
    never = [Outcome(sim) for _, _, sim in arrivals if sim.call]
    inside = (o for replica in replicas for o in (*replica.outcomes, *replica.unfinished()))
    return [*inside, *never]


def _furthest_behind(replicas: Sequence[Replica], until_s: float) -> Replica | None:
    """The replica that has something to do before then, and is the furthest behind."""
    busy = (replica for replica in replicas if replica.is_busy and replica.now_s < until_s)
    return min(busy, key=lambda replica: replica.now_s, default=None)
