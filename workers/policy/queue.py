"""Waiting prompts: earliest due first up to the admission cutoff, the others after them by rank.

Requests of one rank share a heap ordered by due time. The cutoff may move at any moment without
touching a heap; the head of the queue is the best of a few dozen heads.
"""

import heapq
import math
import zlib
from typing import NamedTuple

_MIN_WORK = 64.0
_STEP = math.log(1.2)
_LOW_IMPORTANCE = 100
_CHANCE_RANKS = 32


class Entry(NamedTuple):
    """A waiting request: `due_s` absolute, `work` in prefill-equivalent tokens."""

    due_s: float
    request_id: str
    work: float
    rank: int


def rank_of(request_id: str, work: float, *, important: bool, size_bias: float) -> int:
    """How soon a request yields in overload: higher ranks first.

    Every low-importance request ranks above every other; then size counts, in steps of 20%, mixed
    with chance (a hash of the id) as far as `size_bias` is below 1.
    """
    size_class = math.log(max(work, _MIN_WORK) / _MIN_WORK) / _STEP
    chance = zlib.crc32(request_id.encode()) % _CHANCE_RANKS if size_bias < 1 else 0
    rank = int(size_bias * size_class + (1 - size_bias) * chance)
    return min(rank, _LOW_IMPORTANCE - 1) + (0 if important else _LOW_IMPORTANCE)


class WaitingQueue:
    def __init__(self) -> None:
        self._heaps: dict[int, list[Entry]] = {}
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    def get(self, request_id: str) -> Entry | None:
        return self._entries.get(request_id)

    def push(self, entry: Entry) -> None:
        self._entries[entry.request_id] = entry
        heapq.heappush(self._heaps.setdefault(entry.rank, []), entry)

    def remove(self, request_id: str) -> Entry | None:
        """Take a request out, wherever it stands; None when it is not here."""
        return self._entries.pop(request_id, None)

    def head(self, *, cutoff: int, weight_s: float = 0.0) -> Entry | None:
        """The next request; ties go to the smaller id.

        Up to the cutoff the smallest `due_s + weight_s * work` wins (weight_s 0 is EDF); when
        nothing is left there, the lowest rank.
        """
        best: Entry | None = None
        best_s = math.inf
        beyond: Entry | None = None
        empty: list[int] = []
        for rank, heap in self._heaps.items():
            entry = heap[0]
            if self._entries.get(entry.request_id) is not entry and not self._tidy(heap):
                empty.append(rank)
                continue
            entry = heap[0]
            if rank > cutoff:
                if beyond is None or rank < beyond.rank:
                    beyond = entry
                continue
            key_s = entry.due_s + weight_s * entry.work
            if key_s < best_s or (
                best is not None and key_s == best_s and entry.request_id < best.request_id
            ):
                best, best_s = entry, key_s
        for rank in empty:
            del self._heaps[rank]
        return best or beyond

    def first(self, count: int, *, cutoff: int) -> list[Entry]:
        """The next requests: by due time up to the cutoff, then by rank; at most `count`.

        Looks at some `count` entries and one of each rank. Each heap is walked from its head: of
        every entry that was seen, the two below it come into question.
        """
        frontier = [(self._place(heap[0], cutoff), rank, 0) for rank, heap in self._heaps.items()]
        heapq.heapify(frontier)
        found: list[Entry] = []
        for _ in range(2 * count):  # some have left and are still in the heap
            if not frontier or len(found) == count:
                break
            _, rank, index = heapq.heappop(frontier)
            heap = self._heaps[rank]
            if self._entries.get(heap[index].request_id) is heap[index]:
                found.append(heap[index])
            for below in range(2 * index + 1, min(2 * index + 3, len(heap))):
                heapq.heappush(frontier, (self._place(heap[below], cutoff), rank, below))
        return found

    @staticmethod
    def _place(entry: Entry, cutoff: int) -> tuple[int, float, str]:
        return (entry.rank if entry.rank > cutoff else -1, entry.due_s, entry.request_id)

    def _tidy(self, heap: list[Entry]) -> bool:
        """Drop what was removed from the top of a heap; false when nothing is left."""
        while heap and self._entries.get(heap[0].request_id) is not heap[0]:
            heapq.heappop(heap)
        return bool(heap)
