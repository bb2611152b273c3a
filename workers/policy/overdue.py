"""Prompts that wait and can no longer be met: they go last, or where there is time to spare."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from workers.policy.queue import Entry, WaitingQueue

_RANK = 0


class OverdueQueue(WaitingQueue):
    """All of one rank."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = (-math.inf, "")
        """Due time and id of the request whose turn came last; minus infinity behind the end."""

    def push(self, entry: Entry) -> None:
        super().push(entry._replace(rank=_RANK))

    def take_turns(self, now_s: float, count: int) -> Sequence[Entry]:
        """At most `count` of those whose due times have not passed: they might be met again.

        Each comes again after all others.
        """
        entries = self.of_rank(_RANK)
        seen = max(self._seen, (now_s, ""))
        at = bisect_right(entries, seen, key=lambda entry: (entry.due_s, entry.request_id))
        turn = entries[at : at + count]
        at_end = len(turn) < count
        self._seen = (-math.inf, "") if at_end else (turn[-1].due_s, turn[-1].request_id)
        return turn
