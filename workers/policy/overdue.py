"""Prompts that wait and can no longer be met: they go last, or where there is time to spare."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from workers.policy.qos import Kind
from workers.policy.queue import Entry, WaitingQueue

_Due = tuple[float, str]
"""A due time, and whose it is."""


class OverdueQueue(WaitingQueue):
    """By rank, as any queue; and by due time, to be asked in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[Kind, float] = {}
        """Prefill-equivalent tokens of each kind."""
        self._dues: list[_Due] = []
        """Sorted."""
        self._seen = (-math.inf, "")
        """Due time and id of the request whose turn came last; minus infinity behind the end."""

    def push(self, entry: Entry) -> None:
        super().push(entry)
        insort(self._dues, (entry.due_s, entry.request_id))
        self._add_up(entry, entry.work)

    def remove(self, request_id: str) -> Entry | None:
        entry = super().remove(request_id)
        if entry is not None:
            self._left(entry)
        return entry

    def remove_run(self, rank: int, start: int, stop: int) -> Sequence[Entry]:
        run = super().remove_run(rank, start, stop)
        for entry in run:
            self._left(entry)
        return run

    def take_turns(self, now_s: float, count: int) -> Sequence[str]:
        """At most `count` of those whose due times have not passed: they might be met again.

        Each comes again after all others.
        """
        at = bisect_right(self._dues, max(self._seen, (now_s, "")))
        turn = self._dues[at : at + count]
        self._seen = turn[-1] if len(turn) == count else (-math.inf, "")
        return [request_id for _, request_id in turn]

    def _left(self, entry: Entry) -> None:
        del self._dues[bisect_left(self._dues, (entry.due_s, entry.request_id))]
        self._add_up(entry, -entry.work)
        if not self._dues:  # and no rounding errors
            self.work.clear()

    def _add_up(self, entry: Entry, work: float) -> None:
        self.work[entry.kind] = self.work.get(entry.kind, 0.0) + work
