"""Who asks for more than a fair share of a replica.

The virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024)
serves next the tenant that was served least, by weight. Here deadlines say who is next, and sizes
who yields. So the counters, of what each tenant has asked for lately, say how much sooner those
yield who ask for more than the max-min fair share of what the replica gets done.
"""

import heapq
import math
from collections.abc import Iterable, Mapping

_MEMORY_S = 300.0
"""Of what a tenant asked for so long ago, 1 / e counts."""
_REVIEW_S = 1.0
_MOST_TENANTS = 512
"""Those that asked for most are remembered: others cannot ask for more than their share."""
_LEAST_WORK = 1.0


class Tenants:
    """What each tenant asks for; all work in prefill-equivalent tokens."""

    def __init__(self, weights: Iterable[tuple[str, float]] = ()) -> None:
        self._weights = dict(weights)
        self._asked: dict[str, float] = {}
        """Work that arrived, less the older it is."""
        self._known = 0.0
        """Share of the memory that has been filled, 0 to 1."""
        self._excess: dict[str, float] = {}
        """See `excess`, as of the last review."""
        self._reviewed_s: float | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def asks(
        self, tenant: str, work: float, now_s: float, tokens_per_s: float, due_in_s: float = 0.0
    ) -> None:
        """A request arrives at a replica that gets `tokens_per_s` of work done.

        Of work that has more time than the memory reaches back, what it asks of that time counts:
        jobs for the night, handed in at once, take nothing from anybody's chats.
        """
        work *= _MEMORY_S / max(_MEMORY_S, due_in_s)
        if self._reviewed_s is None:
            self._reviewed_s = now_s
        if not 0 <= now_s - self._reviewed_s < _REVIEW_S:
            self._review(max(0.0, now_s - self._reviewed_s), tokens_per_s)
            self._reviewed_s = now_s
        if tenant in self._asked or len(self._asked) < 2 * _MOST_TENANTS:
            self._asked[tenant] = self._asked.get(tenant, 0.0) + work

    def excess(self, tenant: str) -> float:
        """How many times its fair share a tenant asks for, beside the one that exceeds it least.

        1 where that is less, or all fits; so also of one tenant alone, and of equal ones.
        """
        return self._excess.get(tenant, 1.0)

    def _review(self, passed_s: float, tokens_per_s: float) -> None:
        kept = math.exp(-passed_s / _MEMORY_S)
        self._known = 1 - (1 - self._known) * kept
        asked = ((work * kept, tenant) for tenant, work in self._asked.items())
        most = heapq.nlargest(_MOST_TENANTS, (each for each in asked if each[0] >= _LEAST_WORK))
        self._asked = {tenant: work for work, tenant in most}
        capacity = tokens_per_s * _MEMORY_S * self._known
        fair = fair_share(self._asked, self._weights, capacity)
        self._excess = {
            tenant: max(1.0, work / (fair * self._weights.get(tenant, 1.0)))
            for tenant, work in self._asked.items()
        }
        least = min(self._excess.values(), default=1.0)
        self._excess = {tenant: excess / least for tenant, excess in self._excess.items()}


def fair_share(asked: Mapping[str, float], weights: Mapping[str, float], capacity: float) -> float:
    """Max-min fairness: what one of weight 1 gets at most, when others get as much by weight.

    Those who ask for less get that. Infinity where all fits into the capacity.
    """
    wants = sorted((work / weights.get(name, 1.0), work) for name, work in asked.items() if work)
    left = sum(weights.get(name, 1.0) for name, work in asked.items() if work)
    for level, work in wants:
        if level * left > capacity:
            return max(0.0, capacity) / left or math.inf
        capacity -= work
        left -= work / level
    return math.inf
