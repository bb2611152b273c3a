"""Several replicas behind a router."""

from collections.abc import Callable, Sequence

from workers.simulator.outcome import Outcome
from workers.simulator.replica import Replica
from workers.simulator.workload import SimRequest

#: Chooses the replica of a request that arrives now.
Router = Callable[[SimRequest, Sequence[Replica]], int]


class RoundRobin:
    def __init__(self) -> None:
        self._next = -1

    def __call__(self, sim: SimRequest, replicas: Sequence[Replica]) -> int:
        self._next = (self._next + 1) % len(replicas)
        return self._next


class TierAware:
    """Interactive requests on the first `interactive` replicas only, batch where the least waits.

    An interactive decode holds the iterations of its whole replica short; packed together they do
    so on fewer replicas. Load is the token work outstanding.
    """

    def __init__(self, interactive: int) -> None:
        self._interactive = interactive

    def __call__(self, sim: SimRequest, replicas: Sequence[Replica]) -> int:
        allowed = (
            range(self._interactive) if sim.request.qos.is_interactive else range(len(replicas))
        )
        if sim.request.qos.is_interactive:
            return min(allowed, key=lambda i: (replicas[i].interactive_outstanding, i))
        return min(allowed, key=lambda i: (replicas[i].outstanding_tokens, i))


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
