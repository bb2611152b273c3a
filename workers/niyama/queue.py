"""The waiting prompts: earliest due first among the ranks that fit, then the others by rank."""

import heapq
import math
from typing import NamedTuple

_SMALLEST_WORK = 64.0
_STEP = math.log(1.2)


class Entry(NamedTuple):
    """A waiting request: `due_s` absolute, `work` in prefill-equivalent tokens."""

    due_s: float
    request_id: str
    work: float
    rank: int


def rank_of(size: float, important: bool) -> int:
    size_class = int(math.log(max(size, _SMALLEST_WORK) / _SMALLEST_WORK) / _STEP)
    return size_class if important else size_class + 100


class WaitingQueue:
    def __init__(self) -> None:
        self._heaps: dict[int, list[Entry]] = {}
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    def push(self, entry: Entry) -> None:
        self._entries[entry.request_id] = entry
        heapq.heappush(self._heaps.setdefault(entry.rank, []), entry)

    def remove(self, request_id: str) -> Entry | None:
        """Take a request out, wherever it stands; None when it is not here."""
        return self._entries.pop(request_id, None)

    def head(self, weight_s: float, cut: int) -> Entry | None:
        best: Entry | None = None
        best_key = (math.inf, "")
        beyond = None
        for rank in list(self._heaps):
            heap = self._heaps[rank]
            while heap and self._entries.get(heap[0].request_id) is not heap[0]:
                heapq.heappop(heap)
            if not heap:
                del self._heaps[rank]
                continue
            entry = heap[0]
            if rank > cut:
                if beyond is None or rank < beyond.rank:
                    beyond = entry
                continue
            key = (entry.due_s + weight_s * entry.work, entry.request_id)
            if key < best_key:
                best, best_key = entry, key
        return best or beyond
