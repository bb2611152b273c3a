"""The running decodes: how many, how much context, and when the next token is due.

All decodes take part in every iteration, so each advances by one token per iteration. A decode
whose tokens are due every `pace_s` seconds keeps its rank among decodes of the same pace, which
makes the earliest due token a heap head: no iteration looks at every decode.
"""

import heapq
import math
from typing import NamedTuple

from workers.policy.request import Request

_Entry = tuple[float, str]
"""A decode's rank and its id."""


class _Decode(NamedTuple):
    request: Request
    pace_s: float
    rank_s: float
    """Due time of the next token minus `iteration * pace_s`: constant while the decode runs."""
    joined_iteration: int
    context_tokens: int
    generated_tokens: int
    expected_tokens: float


class DecodeLoad(NamedTuple):
    """What the decodes add to an iteration: how many, and the sum of their context lengths."""

    decodes: int
    context_tokens: int


class MostUrgent(NamedTuple):
    """When a token is due, the pace of its decode, and the answer length that is expected."""

    due_s: float
    pace_s: float
    expected_tokens: float


class Decodes:
    def __init__(self) -> None:
        self._iteration = 0
        self._running: dict[str, _Decode] = {}
        self._heaps: dict[float, list[_Entry]] = {}
        """By pace; none is empty, and the first entry of each is of a decode that runs."""
        self._unscheduled: dict[str, float] = {}
        """The paces of decodes whose every gap counts."""
        self.context_tokens = 0
        """Sum of the context lengths."""
        self.expected_tokens = 0.0
        """Sum of the growth that was expected when each started."""

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._running

    @property
    def load(self) -> DecodeLoad:
        return DecodeLoad(len(self._running), self.context_tokens)

    def add(
        self,
        request: Request,
        *,
        next_due_s: float | None,
        pace_s: float,
        context_tokens: int,
        generated_tokens: int,
        expected_tokens: float = 0.0,
    ) -> None:
        """A prompt is complete and `generated_tokens` are out; later ones follow at `pace_s`.

        `next_due_s` None: there is no schedule, and each token is due `pace_s` after the one
        before it.
        """
        if next_due_s is None:
            next_due_s = math.inf
            self._unscheduled[request.request_id] = pace_s
        rank_s = next_due_s - self._iteration * pace_s
        self._running[request.request_id] = _Decode(
            request,
            pace_s,
            rank_s,
            self._iteration,
            context_tokens,
            generated_tokens,
            expected_tokens,
        )
        self.expected_tokens += expected_tokens
        self.context_tokens += context_tokens
        heapq.heappush(self._heaps.setdefault(pace_s, []), (rank_s, request.request_id))

    def remove(self, request_id: str) -> tuple[Request, int]:
        """Take a decode out; returns its request and the tokens generated so far."""
        decode = self._running.pop(request_id)
        self._unscheduled.pop(request_id, None)
        progressed = self._iteration - decode.joined_iteration
        self.context_tokens -= decode.context_tokens + progressed
        self.expected_tokens -= decode.expected_tokens
        self._drop_ended(decode.pace_s)
        if not self._heaps[decode.pace_s]:
            del self._heaps[decode.pace_s]
        return decode.request, decode.generated_tokens + progressed

    def advance(self) -> None:
        """Every running decode produced one token."""
        self._iteration += 1
        self.context_tokens += len(self._running)

    def shortest_gap_s(self) -> float:
        """The least pace of the decodes without a schedule; infinity without any."""
        return min(self._unscheduled.values(), default=math.inf)

    def most_urgent(self) -> MostUrgent | None:
        """The decode whose next token is due first, infinity without a schedule; None for none."""
        first: MostUrgent | None = None
        for pace_s, heap in self._heaps.items():
            due_s = heap[0][0] + self._iteration * pace_s
            if first is None or due_s < first.due_s:
                first = MostUrgent(due_s, pace_s, self._running[heap[0][1]].expected_tokens)
        return first

    def next_due_s(self) -> float:
        """When the most urgent next token is due; infinity without decodes."""
        first = self.most_urgent()
        return math.inf if first is None else first.due_s

    def shift_late(self, end_s: float) -> None:
        """Tokens that came out late at `end_s` move the rest of their schedule back."""
        for pace_s, heap in self._heaps.items():
            progressed_s = (self._iteration - 1) * pace_s
            moved: list[_Entry] = []
            # The due time is that of the token that was just produced. What has moved is put back
            # afterwards: rounding could make it late once more, and so forever.
            while heap and heap[0][0] + progressed_s < end_s:
                _, request_id = heapq.heappop(heap)
                moved.append((end_s - progressed_s, request_id))
                self._drop_ended(pace_s)
            for entry in moved:
                self._running[entry[1]] = self._running[entry[1]]._replace(rank_s=entry[0])
                heapq.heappush(heap, entry)

    def clock_stepped(self, step_s: float) -> None:
        """The clock was set by `step_s`: what is due, is due as much later."""
        self._heaps = {}
        for request_id, decode in self._running.items():
            moved = decode._replace(rank_s=decode.rank_s + step_s)
            self._running[request_id] = moved
            heap = self._heaps.setdefault(moved.pace_s, [])
            heapq.heappush(heap, (moved.rank_s, request_id))

    def _drop_ended(self, pace_s: float) -> None:
        """The entry of a decode that has ended or moved stays until it is the first."""
        heap = self._heaps[pace_s]
        while heap and not self._is_current(pace_s, heap[0]):
            heapq.heappop(heap)

    def _is_current(self, pace_s: float, entry: _Entry) -> bool:
        decode = self._running.get(entry[1])
        return decode is not None and (decode.pace_s, decode.rank_s) == (pace_s, entry[0])
