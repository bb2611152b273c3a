"""When the next tokens of decodes that share a pace are due."""

from bisect import bisect_left
from operator import attrgetter


class _Tier:
    """Decodes whose tokens are due at the same times."""

    __slots__ = ("rank_s", "request_ids")

    def __init__(self, rank_s: float) -> None:
        self.rank_s = rank_s
        self.request_ids: dict[str, None] = {}
        """In the order in which they joined."""


_rank_s = attrgetter("rank_s")


class Cadence:
    """Decodes of one pace, by rank: the due time of the next token less what has passed.

    What has passed is `pace_s` for each iteration since the first of them joined. It grows for all
    of them alike, so that ranks are constant while decodes run. Decodes that were late together
    are due together from then on: to move them once more is one step, however many they are.
    """

    def __init__(self, pace_s: float, iteration: int) -> None:
        self._pace_s = pace_s
        self._first_iteration = iteration
        self._tiers: list[_Tier] = []
        """By rank; none is empty."""
        self._tier_of: dict[str, _Tier] = {}

    def __len__(self) -> int:
        return len(self._tier_of)

    def add(self, request_id: str, due_s: float, iteration: int) -> None:
        """A decode joins; `due_s` is infinity when it has no schedule."""
        rank_s = due_s - self._passed_s(iteration)
        at = bisect_left(self._tiers, rank_s, key=_rank_s)
        if at == len(self._tiers) or self._tiers[at].rank_s != rank_s:
            self._tiers.insert(at, _Tier(rank_s))
        self._join(request_id, self._tiers[at])

    def remove(self, request_id: str) -> None:
        tier = self._tier_of.pop(request_id)
        del tier.request_ids[request_id]
        if not tier.request_ids:
            at = bisect_left(self._tiers, tier.rank_s, key=_rank_s)
            while self._tiers[at] is not tier:  # rounding made ranks equal when the clock was set
                at += 1
            del self._tiers[at]

    def due_s(self, request_id: str, iteration: int) -> float:
        """When the next token of a decode is due."""
        return self._tier_of[request_id].rank_s + self._passed_s(iteration)

    def first(self, iteration: int) -> tuple[float, str]:
        """When the first of the next tokens is due, and of which decode."""
        tier = self._tiers[0]
        return tier.rank_s + self._passed_s(iteration), next(iter(tier.request_ids))

    @property
    def last_rank_s(self) -> float:
        """Infinity when any of them has no schedule."""
        return self._tiers[-1].rank_s

    def shift_late(self, iteration: int, end_s: float) -> None:
        """What was due before `end_s` came out then: the rest of its schedule moves as far."""
        rank_s = end_s - self._passed_s(iteration - 1)
        late = self._tiers[: bisect_left(self._tiers, rank_s, key=_rank_s)]
        if not late:
            return
        largest = max(late, key=lambda tier: len(tier.request_ids))
        for tier in late:
            for request_id in tier.request_ids if tier is not largest else ():
                self._join(request_id, largest)
        largest.rank_s = rank_s
        self._tiers[: len(late)] = [largest]

    def clock_stepped(self, step_s: float) -> None:
        """The clock was set by `step_s`: what is due, is due as much later."""
        for tier in self._tiers:
            tier.rank_s += step_s

    def _passed_s(self, iteration: int) -> float:
        return (iteration - self._first_iteration) * self._pace_s

    def _join(self, request_id: str, tier: _Tier) -> None:
        tier.request_ids[request_id] = None
        self._tier_of[request_id] = tier
