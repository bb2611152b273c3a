"""How much of the waiting work can be done in time: the admission cutoff.

Waiting requests have a rank, the order in which they yield (`ranking.rank_of`). The cutoff is the
highest rank such that the work of that rank and below, done in order of due time, meets every due
time. To give up the largest first leaves the fewest late (Moore and Hodgson, Management Science
15(1), 1968); a cutoff that moves rank by rank comes close without looking at single requests, and
nothing is lost when it moves back.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from workers.policy.qos import Kind

NO_CUTOFF = 10_000
"""A rank that no request has: every rank is admitted."""
LEAST_WORK = 1.0
"""Prefill-equivalent tokens: less than one is what rounding leaves of a sum."""
_STEPS = 16
"""Due times are rounded down to steps of at most 1 / `_STEPS` of the time that is left."""
_RAISED = 8
"""Ranks by which the cutoff is raised at once, at most."""
_MIN_LEFT_S = 0.25
_EMPTY: Mapping[float, float] = {}


class Due(NamedTuple):
    """Work, in prefill-equivalent tokens, that has to be done by `due_s`."""

    due_s: float
    work: float

    def by_step(self, now_s: float) -> "Due":
        """Due at a time that many have; never, when it has passed."""
        due_s = -math.inf if self.due_s < now_s else _rounded(self.due_s, now_s)
        return Due(due_s, self.work)


NO_ANSWER = Due(-math.inf, 0.0)
Parts = tuple[Due, Due]
"""Of a request: its prompt, and its answer."""


class Decoding(NamedTuple):
    """What the running decodes still cost."""

    work: float
    """In prefill-equivalent tokens,"""
    per_s: float
    """and as many of them per second."""


NOTHING = Decoding(0.0, 0.0)


class Lookahead:
    """`base_s` and `share`: within t seconds, min(t, base_s + share * t) seconds of work fit."""

    def __init__(self, *, base_s: float, share: float) -> None:
        self.cutoff = NO_CUTOFF
        self.work = 0.0
        """Prefill-equivalent tokens of all waiting and started requests that are not overdue."""
        self.pressure = 0.0
        """Largest share of the usable time that work takes, over all due times; above 1 not all
        due times can be met."""
        self.near_pressure = 0.0
        """The same over the due times so near that no time is left to later arrivals."""
        self.spare = 0.0
        """Prefill-equivalent tokens of other work that could go first, with every due time still
        met; 0 while there is a cutoff, or work whose due time has just passed."""
        self.late_of: dict[Kind, float] = {}
        """Prefill-equivalent tokens of each kind whose due time has passed, of requests that are
        not overdue yet; in none of the sums above."""
        self.decoding = NOTHING
        """As of the last review."""
        self._base_s = base_s
        self._share = share
        self._waiting: dict[str, tuple[int, Kind, Parts]] = {}
        self._started: dict[str, tuple[Kind, Parts]] = {}
        self._by_rank: dict[int, dict[float, float]] = {}
        self._due_times: list[float] = []
        self._ahead_s: list[float] = []
        """Those that have not passed, as of this review."""
        self._past_s = -math.inf
        self._fitting: dict[float, float] = {}
        """Waiting work up to the cutoff, by due time."""
        self._committed: dict[float, float] = {}
        """Started work, by due time."""
        self._by_kind: dict[Kind, dict[float, float]] = {}
        """All work, by due time."""

    def add(
        self,
        request_id: str,
        *,
        now_s: float,
        rank: int,
        kind: Kind,
        prompt: Due,
        answer: Due = NO_ANSWER,
    ) -> None:
        """Work whose due time has passed does not count: it will not be done in time."""
        parts = prompt.by_step(now_s), answer.by_step(now_s)
        self._waiting[request_id] = (rank, kind, parts)
        for due_s, work in parts:
            self._change(due_s, rank, work, kind)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._waiting or request_id in self._started

    @property
    def late(self) -> float:
        """See `late_of`: of all kinds."""
        return sum(self.late_of.values())

    def start(self, request_id: str) -> None:
        """The request's prefill starts: its work counts whatever the cutoff."""
        if request_id in self._waiting:
            rank, kind, parts = self._waiting.pop(request_id)
            self._started[request_id] = kind, parts
            for due_s, work in parts:
                self._change(due_s, rank, -work, kind)
                self._commit(due_s, work, kind)

    def progress(self, request_id: str, work: float) -> None:
        """Some of the work of a started request is done."""
        if request_id in self._started:
            kind, ((due_s, left), answer) = self._started[request_id]
            work = min(work, left)
            self._started[request_id] = kind, (Due(due_s, left - work), answer)
            self._commit(due_s, -work, kind)

    def remove(self, request_id: str) -> None:
        """The request is done or gone; unknown ids are ignored."""
        if request_id in self._waiting:
            rank, kind, parts = self._waiting.pop(request_id)
            for due_s, work in parts:
                self._change(due_s, rank, -work, kind)
        elif request_id in self._started:
            kind, parts = self._started.pop(request_id)
            for due_s, work in parts:
                self._commit(due_s, -work, kind)

    def review(
        self, now_s: float, throughput: float, limit: int, decoding: Decoding = NOTHING
    ) -> bool:
        """Lower the cutoff until the rest fits, or raise it by some ranks if these fit.

        `throughput` is prefill-equivalent tokens per second. Lowering it ends after about `limit`
        sums; false when it has to go on.
        """
        self.decoding = decoding
        self._forget_past(now_s, limit)
        self._ahead_s = self._due_times[bisect.bisect_left(self._due_times, now_s) :]
        self.pressure, self.near_pressure, spare = self._pressures_and_spare(now_s, throughput)
        is_met = self.cutoff == NO_CUTOFF and self.late < LEAST_WORK
        self.spare = max(0.0, spare) if is_met else 0.0
        if self.pressure <= 1.0 and self.cutoff == NO_CUTOFF:
            return True
        ranks = sorted(self._by_rank)
        if self._fits(_EMPTY, now_s, throughput):
            self._raise(ranks, now_s, throughput)
            return True
        return self._lower(ranks, now_s, throughput, limit)

    def due_within(self, horizons_s: Sequence[float], now_s: float) -> dict[Kind, list[float]]:
        """Work of each kind that there is, due within each of the horizons, which ascend."""
        due = {}
        for kind, amounts in self._by_kind.items():
            sums = [0.0] * len(horizons_s)
            for due_s, work in amounts.items():
                within = bisect.bisect_left(horizons_s, due_s - now_s)
                if within < len(sums):
                    sums[within] += work
            due[kind] = list(accumulate(max(0.0, work) for work in sums))
        return due

    def fitting_by(self, due_s: float) -> float:
        """Work that is due by then, and is not beyond the cutoff."""
        by_then = self._due_times[: bisect.bisect_right(self._due_times, due_s)]
        return max(0.0, sum(self._fitting[each] + self._committed[each] for each in by_then))

    def _lower(self, ranks: list[int], now_s: float, throughput: float, limit: int) -> bool:
        below = ranks[: bisect.bisect_right(ranks, self.cutoff)]
        while below and not self._fits(_EMPTY, now_s, throughput):
            if limit <= 0:
                return False
            rank = below.pop()
            amounts = self._by_rank[rank]
            for due_s, work in amounts.items():
                self._fitting[due_s] -= work
            self.cutoff = rank - 1
            limit -= len(amounts) + len(self._ahead_s)
        return True

    def _raise(self, ranks: list[int], now_s: float, throughput: float) -> None:
        position = bisect.bisect_right(ranks, self.cutoff)
        for rank in ranks[position : position + _RAISED]:
            amounts = self._by_rank[rank]
            if not self._fits(amounts, now_s, throughput):
                return
            self.cutoff = rank
            for due_s, work in amounts.items():
                self._fitting[due_s] += work
        if not ranks or self.cutoff >= ranks[-1]:
            self.cutoff = NO_CUTOFF

    def _fits(self, extra: Mapping[float, float], now_s: float, throughput: float) -> bool:
        """Can the work up to the cutoff, and `extra`, be done in time?

        Started work alone always counts as done in time.
        """
        fitting, committed = self._fitting, self._committed
        base_s, share = self._base_s, self._share
        decoding, decoding_per_s = self.decoding
        total = yielding = 0.0
        for due_s in self._ahead_s:
            more = fitting[due_s] + extra.get(due_s, 0.0)
            yielding += more
            total += more + committed[due_s]
            left_s = due_s - now_s
            usable_s = base_s + share * left_s  # a function of its own would double the time
            if left_s < usable_s:
                usable_s = left_s
            running = min(decoding, decoding_per_s * left_s)
            if total + running > usable_s * throughput and yielding > LEAST_WORK:
                return False
        return True

    def _pressures_and_spare(self, now_s: float, throughput: float) -> tuple[float, float, float]:
        """Of the work up to the cutoff."""
        fitting, committed = self._fitting, self._committed
        base_s, share = self._base_s, self._share
        decoding, decoding_per_s = self.decoding
        total = worst = near = 0.0
        spare = math.inf
        for due_s in self._ahead_s:
            total += fitting[due_s] + committed[due_s]
            if total <= LEAST_WORK:
                continue
            left_s = due_s - now_s
            usable_s = base_s + share * left_s
            if left_s < usable_s:
                usable_s = left_s
            work = total + min(decoding, decoding_per_s * left_s)
            if usable_s > _MIN_LEFT_S and work > worst * usable_s:
                worst = work / usable_s
                if usable_s == left_s:
                    near = worst
            if usable_s * throughput < spare + work:
                spare = usable_s * throughput - work
        return worst / throughput, near / throughput, spare

    def _change(self, due_s: float, rank: int, work: float, kind: Kind) -> None:
        if due_s <= self._past_s:
            self._add_late(work, kind)
            return
        self._ensure(due_s)
        amounts = self._by_rank.setdefault(rank, {})
        amounts[due_s] = amounts.get(due_s, 0.0) + work
        if abs(amounts[due_s]) < 1e-6:
            del amounts[due_s]
            if not amounts:
                del self._by_rank[rank]
        if rank <= self.cutoff:
            self._fitting[due_s] += work
        self._add_up(due_s, work, kind)

    def _commit(self, due_s: float, work: float, kind: Kind) -> None:
        if due_s <= self._past_s:
            self._add_late(work, kind)
            return
        self._ensure(due_s)
        self._committed[due_s] += work
        self._add_up(due_s, work, kind)

    def _add_up(self, due_s: float, work: float, kind: Kind) -> None:
        self.work += work
        amounts = self._by_kind.setdefault(kind, {})
        amounts[due_s] = amounts.get(due_s, 0.0) + work

    def _add_late(self, work: float, kind: Kind) -> None:
        self.late_of[kind] = self.late_of.get(kind, 0.0) + work

    def _ensure(self, due_s: float) -> None:
        if due_s not in self._fitting:
            self._fitting[due_s] = self._committed[due_s] = 0.0
            bisect.insort(self._due_times, due_s)

    def _forget_past(self, now_s: float, limit: int) -> None:
        """Of the due times that have passed, as many as take about `limit` sums."""
        at_most = 1 + limit // (len(self._by_rank) + 1)
        past = self._due_times[: min(at_most, bisect.bisect_left(self._due_times, now_s))]
        del self._due_times[: len(past)]
        for due_s in past:
            self._past_s = due_s
            del self._committed[due_s], self._fitting[due_s]
            for kind, amounts in self._by_kind.items():
                late = amounts.pop(due_s, 0.0)
                self.work -= late
                self._add_late(late, kind)
            for rank in list(self._by_rank):
                amounts = self._by_rank[rank]
                amounts.pop(due_s, None)
                if not amounts:
                    del self._by_rank[rank]


def _rounded(due_s: float, now_s: float) -> float:
    left_s = max(due_s - now_s, _MIN_LEFT_S)
    step_s = 2.0 ** math.floor(math.log2(left_s / _STEPS))
    return math.floor(due_s / step_s) * step_s
