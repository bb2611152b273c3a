"""Several replicas behind a router."""

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
    """Requests that limit gaps go to the first `interactive` replicas; others to the least loaded.

    Such a decode keeps the iterations of its whole replica short; packed together they do
    so on fewer replicas. Load is prompt tokens outstanding.
    """

    def __init__(self, interactive: int) -> None:
        self._interactive = interactive

    def __call__(self, sim: SimRequest, replicas: Sequence[Replica]) -> int:
        if sim.request.qos.limits_gaps:
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
    """Serve the requests in arrival order; outcomes of all, finished or not by `until_s`."""
    for index, sim in enumerate(requests):
        for replica in replicas:
            replica.run_until(sim.request.qos.arrival_s)
        replicas[router(sim, replicas)].submit(sim)
        if progress is not None and index % 256 == 0:
            progress(sim.request.qos.arrival_s / until_s)
    for replica in replicas:
        replica.run_until(until_s)
    return [o for replica in replicas for o in (*replica.outcomes, *replica.unfinished())]
