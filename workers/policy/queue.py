"""Waiting prompts by rank, and in order of their due times within a rank."""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workers.policy.qos import Kind


class Entry(NamedTuple):
    """A waiting request: `due_s` absolute, `work` in prefill-equivalent tokens."""

    due_s: float
    request_id: str
    work: float
    rank: int
    prompt_tokens: int = 0
    """Tokens of its prompt that have to be computed."""
    expires_s: float = math.inf
    answer_due_s: float = math.inf
    """When its answer should be complete."""
    kind: Kind = Kind.INTERACTIVE


class WaitingQueue:
    """Holds nothing of requests that were taken out: what it costs follows what waits.

    Sorted lists, not heaps: to insert and to delete moves pointers, which is cheaper than a heap's
    comparisons up to many more requests than wait, and whole runs of requests can be taken.
    """

    def __init__(self) -> None:
        self._ranks: dict[int, list[Entry]] = {}
        """Sorted by due time, then id; none is empty."""
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    def get(self, request_id: str) -> Entry | None:
        return self._entries.get(request_id)

    def push(self, entry: Entry) -> None:
        self.remove(entry.request_id)
        self._entries[entry.request_id] = entry
        insort(self._ranks.setdefault(entry.rank, []), entry)

    def remove(self, request_id: str) -> Entry | None:
        """Take a request out, wherever it stands; None when it is not here."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            at = bisect_left(self._ranks[entry.rank], entry)
            self._delete(entry.rank, at, at + 1)
        return entry

    def remove_run(self, rank: int, start: int, stop: int) -> Sequence[Entry]:
        """Take out the requests of a rank from one position to another."""
        run = self._ranks[rank][start:stop]
        for entry in run:
            del self._entries[entry.request_id]
        self._delete(rank, start, stop)
        return run

    def firsts(self) -> Iterable[Entry]:
        """The earliest due of each rank."""
        return (entries[0] for entries in self._ranks.values())

    def of_rank(self, rank: int) -> Sequence[Entry]:
        """The requests of a rank, the earliest due first."""
        return self._ranks.get(rank, ())

    def _delete(self, rank: int, start: int, stop: int) -> None:
        entries = self._ranks[rank]
        del entries[start:stop]
        if not entries:
            del self._ranks[rank]
