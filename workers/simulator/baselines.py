"""The schedulers Niyama is compared with: fixed-chunk FCFS, EDF and SRPF, and the published Niyama.

`PaperPolicy` follows the released artifact of arXiv 2503.22562 where it differs from the paper:
chunk candidates, a flat margin, a constant output estimate, and relegation that ignores
importance.
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


PAPER_CHUNKS = (2552, 2048, 1792, 1536, 1280, 1024, 768, 512, 256, 128)
PAPER_MARGIN = 1.2
PAPER_BATCH_PACE_S = 0.4
PAPER_OUTPUT_TOKENS = 15
PAPER_SRPF_WEIGHT_S = 0.008


class PaperPolicy(FixedChunkPolicy):
    """Niyama as released: dynamic chunks, hybrid priority, eager one-way relegation."""

    def __init__(self, latency: LatencyModel, *, answer_s: float = 0.0) -> None:
        """`answer_s`: time that the relegation test leaves a batch answer; none in the artifact."""
        super().__init__(self._hybrid_key, PAPER_CHUNKS[0])
        self._answer_s = answer_s
        self._latency = latency
        self._throughput = 5000.0  # prefill tokens per second, moving average
        self._relegated: list[tuple[float, str]] = []

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        context = max((p.computed_tokens for p in self._state.started.values()), default=0)
        self._chunk_tokens = self._budget(now_s, context) + len(self._state.decodes)
        return super().plan(now_s, free_kv_tokens)

    def measured(self, ran: Sample, *, full: bool) -> None:
        if ran.prefill_tokens:
            self._throughput += 0.05 * (ran.prefill_tokens / ran.duration_s - self._throughput)

    def use(self, model: LatencyModel) -> None:
        self._latency = model

    def _hybrid_key(self, prefill: Prefill) -> float:
        work = prefill.remaining_tokens
        if not prefill.request.qos.deadline_is_first_token:
            work += PAPER_OUTPUT_TOKENS
        return prefill.request.qos.deadline_s + PAPER_SRPF_WEIGHT_S * work

    def _budget(self, now_s: float, prefill_context: int) -> int:
        decodes = self._state.decodes
        slack_s = decodes.next_due_s() - now_s
        if slack_s <= 0:
            return PAPER_CHUNKS[-1]
        for chunk in PAPER_CHUNKS:
            predicted_s = self._latency.iteration_s(
                chunk, prefill_context, len(decodes), decodes.context_tokens
            )
            if predicted_s * PAPER_MARGIN <= slack_s:
                return chunk
        return PAPER_CHUNKS[-1]

    def _join_decodes(self, prefill: Prefill, end_s: float) -> None:
        request = prefill.request
        if request.qos.limits_gaps:
            pace_s = request.qos.tbt_s
            due_s = request.qos.deadline_s + (prefill.generated_tokens + 1) * pace_s
        else:
            pace_s = PAPER_BATCH_PACE_S
            due_s = end_s + pace_s
        self._state.decodes.add(
            request,
            next_due_s=due_s,
            pace_s=pace_s,
            context_tokens=prefill.computed_tokens,
            generated_tokens=prefill.generated_tokens + 1,
        )

    def _head(self, now_s: float) -> Prefill | None:
        """The most urgent waiting prompt; hopeless ones go behind all others."""
        while (prefill := super()._head(now_s)) is not None:
            finish_s = now_s + prefill.remaining_tokens / self._throughput
            if not prefill.request.qos.deadline_is_first_token:
                finish_s += self._answer_s
            if finish_s <= prefill.request.qos.deadline_s:
                return prefill
            heapq.heappush(self._relegated, heapq.heappop(self._heap))
        return self._serve_relegated()

    def _serve_relegated(self) -> Prefill | None:
        while self._relegated:
            entry = heapq.heappop(self._relegated)
            prefill = self._state.prefills.get(entry[1])
            if prefill is not None:
                heapq.heappush(self._heap, entry)
                return prefill
        return None
