"""Waiting prompts in the order in which one plan considers them."""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from workers.policy.queue import Entry, WaitingQueue
from workers.policy.selection import Order

_Turn = tuple[int, float, str, Entry]
"""Turns are taken from the smallest to the largest: by 0 up to the cutoff, and beyond it the rank,
which is higher; by the order's key; by the id. No named tuple: there is one for each rank, in each
plan."""


class Candidates:
    """Made anew for every plan: which are the earliest due of each rank, and who of them is next.

    Up to the cutoff the smallest `due_s + srpf_weight_s * work` is next; when nothing is left
    there, the lowest rank; ties go to the smaller id. What is pushed to the queue meanwhile may
    have to wait for the next plan.
    """

    def __init__(
        self,
        queue: WaitingQueue,
        order: Order,
        *,
        gives_up: Callable[[Entry], bool],
        set_aside: Callable[[Entry], None],
        limit: int,
    ) -> None:
        """Requests that `gives_up` names are taken from the queue and passed to `set_aside`.

        At most `limit` of them. A rank that has more is not considered in this plan.
        """
        self._queue = queue
        self._order = order
        self._gives_up = gives_up
        self._set_aside = set_aside
        self._left = limit
        self._turns = [self._turn(entry) for entry in queue.firsts()]
        heapq.heapify(self._turns)

    def head(self) -> Entry | None:
        """The most urgent request that was neither taken from the queue nor skipped."""
        while self._turns:
            entry = self._turns[0][-1]
            if self._queue.get(entry.request_id) is not entry:
                self.skip()
            elif not self._gives_up(entry):
                return entry
            elif self._left:
                self._give_up_from(entry)
            else:
                heapq.heappop(self._turns)
        return None

    def skip(self) -> None:
        """Go on behind the head; it stays in the queue."""
        entry = self._turns[0][-1]
        entries = self._queue.of_rank(entry.rank)
        self._go_on(entry.rank, bisect_right(entries, entry))

    def _give_up_from(self, first: Entry) -> None:
        """`first`, and those of its rank right behind it, as far as the limit allows."""
        entries = self._queue.of_rank(first.rank)
        start = stop = bisect_left(entries, first)
        end = min(len(entries), start + self._left)
        while stop < end and self._gives_up(entries[stop]):
            stop += 1
        self._left -= stop - start
        for entry in self._queue.remove_run(first.rank, start, stop):
            self._set_aside(entry)
        self._go_on(first.rank, start)

    def _go_on(self, rank: int, position: int) -> None:
        """The turn of the head goes to the request at this position of its rank, if any."""
        entries = self._queue.of_rank(rank)
        if position < len(entries):
            heapq.heapreplace(self._turns, self._turn(entries[position]))
        else:
            heapq.heappop(self._turns)

    def _turn(self, entry: Entry) -> _Turn:
        cutoff, weight_s = self._order
        due_s, request_id, work, rank = entry[:4]
        return rank if rank > cutoff else 0, due_s + weight_s * work, request_id, entry
