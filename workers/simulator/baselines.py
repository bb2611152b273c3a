"""The schedulers Niyama is compared with: FCFS, EDF and SRPF, in fixed chunks.

Late work goes first by EDF, and as any other by the rest; with `SheddingPolicy` it goes last.
"""

import heapq
from collections.abc import Callable

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.release import Release
from workers.policy.request import Prefill, Request
from workers.simulator.engine_state import EngineState

Key = Callable[[Prefill], float]


def fcfs_key(prefill: Prefill) -> float:
    return prefill.request.qos.arrival_s


def edf_key(prefill: Prefill) -> float:
    return prefill.request.qos.deadline_s


def srpf_key(prefill: Prefill) -> float:
    return float(prefill.remaining_tokens)


class FixedChunkPolicy:
    """Sarathi-style: `chunk_tokens` per iteration, decodes included, prompts in order of `key`."""

    def __init__(self, key: Key, chunk_tokens: int) -> None:
        self._key = key
        self._chunk_tokens = chunk_tokens
        self._state = EngineState()
        self._heap: list[tuple[float, str]] = []
        self._planned: tuple[Chunk, ...] = ()

    def add(self, request: Request, now_s: float) -> None:
        self._push(self._state.add(request))

    def abort(self, request_id: str) -> None:
        self._state.abort(request_id)

    def correct(self, request_id: str, *, held_tokens: int, remaining_tokens: int) -> None:
        self._state.prefills[request_id].correct(held_tokens, remaining_tokens)

    def measured(self, ran: Sample, *, full: bool) -> None:
        """Chunks are fixed, whatever they take."""

    def use(self, model: LatencyModel) -> None:
        """There is nothing that would use it."""

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        decodes = len(self._state.decodes)
        budget = min(self._chunk_tokens, free_kv_tokens) - decodes
        unreserved = free_kv_tokens - decodes - self._state.reserved_kv_tokens()
        started = sorted(self._state.started.values(), key=self._order, reverse=True)
        chunks: list[Chunk] = []
        while budget > 0:
            head = self._head(now_s)
            if head is not None and head.missing_kv_tokens > unreserved:
                head = None  # no memory: what is in progress continues
            if started and (head is None or self._order(started[-1]) <= self._order(head)):
                prefill = started.pop()
            elif head is not None:
                prefill = head
                unreserved -= prefill.missing_kv_tokens
                heapq.heappop(self._heap)
            else:
                break
            tokens = min(budget, prefill.remaining_tokens)
            chunks.append(Chunk(prefill.request_id, tokens))
            budget -= tokens
        self._planned = tuple(chunks)
        return IterationPlan(self._planned)

    def observe(self, result: IterationResult) -> dict[str, Release]:
        state = self._state
        for request_id in result.retracted:
            self._push(state.retract(request_id))
        if result.decoded:
            state.decodes.advance()
        for prefill in state.compute(result):
            self._join_decodes(prefill, result.end_s)
        self._requeue_untaken()
        for request_id in result.finished:
            state.abort(request_id)
        return {}

    def _requeue_untaken(self) -> None:
        """What was planned and not computed (the engine had no room after all) waits again."""
        for request_id, _ in self._planned:
            prefill = self._state.prefills.get(request_id)
            if prefill is not None and not prefill.has_kv:
                self._push(prefill)
        self._planned = ()

    def _join_decodes(self, prefill: Prefill, end_s: float) -> None:
        request = prefill.request
        self._state.decodes.add(
            request,
            next_due_s=end_s,
            pace_s=1.0,
            context_tokens=prefill.computed_tokens,
            generated_tokens=prefill.generated_tokens + 1,
        )

    def _order(self, prefill: Prefill) -> tuple[float, str]:
        return self._key(prefill), prefill.request_id

    def _push(self, prefill: Prefill) -> None:
        heapq.heappush(self._heap, self._order(prefill))

    def _head(self, now_s: float) -> Prefill | None:
        while self._heap:
            prefill = self._state.prefills.get(self._heap[0][1])
            if prefill is not None:
                return prefill
            heapq.heappop(self._heap)
        return None


class SheddingPolicy(FixedChunkPolicy):
    """Waiting prompts that would miss their deadline if they were served now go behind all others.

    The test is that of the artifact of arXiv 2503.22562: by the prompt tokens per second of late.
    """

    def __init__(
        self, key: Key, chunk_tokens: int, *, answer_s: float = 0.0, use_importance: bool = False
    ) -> None:
        """`answer_s`, or half its time if that is less, is left for the answer of a batch request.

        With `use_importance` a prompt of low importance yields as well, when the important one that
        is due first would be late after it.
        """
        super().__init__(key, chunk_tokens)
        self._answer_s = answer_s
        self._use_importance = use_importance
        self._throughput = 5000.0  # prefill tokens per second, moving average
        self._important: list[tuple[float, str]] = []
        """By deadline; those that no longer wait, or are hopeless, go when they are met."""
        self._relegated: list[tuple[float, str]] = []

    def measured(self, ran: Sample, *, full: bool) -> None:
        if ran.prefill_tokens:
            self._throughput += 0.05 * (ran.prefill_tokens / ran.duration_s - self._throughput)

    def _push(self, prefill: Prefill) -> None:
        super()._push(prefill)
        qos = prefill.request.qos
        if self._use_importance and qos.is_important:
            heapq.heappush(self._important, (qos.deadline_s, prefill.request_id))

    def _head(self, now_s: float) -> Prefill | None:
        while (prefill := super()._head(now_s)) is not None:
            if not self._is_late(prefill, now_s) and not self._yields(prefill, now_s):
                return prefill
            heapq.heappush(self._relegated, heapq.heappop(self._heap))
        return self._relegated_head()

    def _is_late(self, prefill: Prefill, now_s: float, tokens_before: int = 0) -> bool:
        finish_s = now_s + (tokens_before + prefill.remaining_tokens) / self._throughput
        qos = prefill.request.qos
        if not qos.deadline_is_first_token:
            finish_s += min(self._answer_s, (qos.deadline_s - qos.arrival_s) / 2)
        return finish_s > qos.deadline_s

    def _yields(self, prefill: Prefill, now_s: float) -> bool:
        if not self._use_importance or prefill.request.qos.is_important:
            return False
        first = self._first_important(now_s)
        return first is not None and self._is_late(first, now_s, prefill.remaining_tokens)

    def _first_important(self, now_s: float) -> Prefill | None:
        while self._important:
            request_id = self._important[0][1]
            prefill = self._state.prefills.get(request_id)
            waits = prefill is not None and request_id not in self._state.started
            if prefill is not None and waits and not self._is_late(prefill, now_s):
                return prefill
            heapq.heappop(self._important)
        return None

    def _relegated_head(self) -> Prefill | None:
        while self._relegated:
            entry = heapq.heappop(self._relegated)
            prefill = self._state.prefills.get(entry[1])
            if prefill is not None:
                heapq.heappush(self._heap, entry)
                return prefill
        return None
