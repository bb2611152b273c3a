"""Which sizes of waiting work can all be met: the cut.

Waiting requests have a rank: the order in which one would rather lose them (importance, then
size; see `queue.rank_of`). The cut is the highest rank such that the work of that rank and below,
done in order of due time, meets every due time. Dropping the largest first leaves the fewest
late (Moore and Hodgson, Management Science 15(1), 1968); a cut by rank, moved one rank at a time,
approximates it without looking at single requests.
"""

import bisect
import math

#: Due times are rounded down to steps of this fraction of the time that is left.
_STEPS = 16
NO_CUT = 1000


class Lookahead:
    def __init__(self) -> None:
        self.cut = NO_CUT
        #: Prefill-equivalent tokens of all waiting and begun requests.
        self.work = 0.0
        self._where: dict[str, tuple[float, int, float]] = {}
        self._begun: dict[str, tuple[float, float]] = {}
        self._by_rank: dict[int, dict[float, float]] = {}
        self._due_times: list[float] = []
        self._past_s = -math.inf
        #: Work up to the cut, and begun work, per due time.
        self._fitting: dict[float, float] = {}
        self._committed: dict[float, float] = {}

    def add(self, request_id: str, *, due_s: float, now_s: float, rank: int, work: float) -> None:
        due_s = _rounded(due_s, now_s)
        self._where[request_id] = (due_s, rank, work)
        self._change(due_s, rank, work)

    def commit(self, request_id: str) -> None:
        """The request has begun: its work counts whatever the cut."""
        due_s, rank, work = self._where.pop(request_id)
        self._change(due_s, rank, -work)
        self._begun[request_id] = (due_s, work)
        self._commit(due_s, work)

    def progress(self, request_id: str, work: float) -> None:
        """Some of the work of a begun request is done."""
        if request_id in self._begun:
            due_s, left = self._begun[request_id]
            work = min(work, left)
            self._begun[request_id] = (due_s, left - work)
            self._commit(due_s, -work)

    def remove(self, request_id: str) -> None:
        if request_id in self._where:
            due_s, rank, work = self._where.pop(request_id)
            self._change(due_s, rank, -work)
        elif request_id in self._begun:
            due_s, work = self._begun.pop(request_id)
            self._commit(due_s, -work)

    def review(self, now_s: float, throughput: float, base_s: float, share: float) -> None:
        """Lower the cut until the rest can be met, or raise it by one rank if that can."""
        self._forget_past(now_s)
        ranks = sorted(self._by_rank)
        fits = self._fits({}, now_s, throughput, base_s, share)
        if not fits:
            below = [rank for rank in ranks if rank <= self.cut]
            while below and not self._fits({}, now_s, throughput, base_s, share):
                rank = below.pop()
                for due_s, work in self._by_rank[rank].items():
                    self._fitting[due_s] -= work
                self.cut = rank - 1
            return
        position = bisect.bisect_right(ranks, self.cut)
        if position == len(ranks):
            self.cut = NO_CUT
            return
        rank = ranks[position]
        if self._fits(self._by_rank[rank], now_s, throughput, base_s, share):
            self.cut = rank
            for due_s, work in self._by_rank[rank].items():
                self._fitting[due_s] += work

    def _fits(self, extra: dict[float, float], now_s: float, throughput: float, base_s: float, share: float) -> bool:
        total = droppable = 0.0
        fitting, committed = self._fitting, self._committed
        for due_s in self._due_times:
            more = fitting[due_s] + extra.get(due_s, 0.0)
            droppable += more
            total += more + committed[due_s]
            left_s = due_s - now_s
            if total > min(left_s, base_s + share * left_s) * throughput and droppable > 1.0:
                return False
        return True

    def _change(self, due_s: float, rank: int, work: float) -> None:
        if due_s <= self._past_s:
            return
        self._ensure(due_s)
        amounts = self._by_rank.setdefault(rank, {})
        amounts[due_s] = amounts.get(due_s, 0.0) + work
        if abs(amounts[due_s]) < 1e-6:
            del amounts[due_s]
            if not amounts:
                del self._by_rank[rank]
        if rank <= self.cut:
            self._fitting[due_s] += work
        self.work += work

    def _commit(self, due_s: float, work: float) -> None:
        if due_s <= self._past_s:
            return
        self._ensure(due_s)
        self._committed[due_s] += work
        self.work += work

    def _ensure(self, due_s: float) -> None:
        if due_s not in self._fitting:
            self._fitting[due_s] = self._committed[due_s] = 0.0
            bisect.insort(self._due_times, due_s)

    def _forget_past(self, now_s: float) -> None:
        while self._due_times and self._due_times[0] < now_s:
            due_s = self._past_s = self._due_times.pop(0)
            self.work -= self._committed.pop(due_s)
            del self._fitting[due_s]
            for rank in list(self._by_rank):
                amounts = self._by_rank[rank]
                self.work -= amounts.pop(due_s, 0.0)
                if not amounts:
                    del self._by_rank[rank]


def _rounded(due_s: float, now_s: float) -> float:
    left_s = max(due_s - now_s, 0.25)
    step_s = 2.0 ** math.floor(math.log2(left_s / _STEPS))
    return math.floor(due_s / step_s) * step_s
