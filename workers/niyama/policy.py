"""The Niyama policy: which prompts, and how much of them, join the decodes in each iteration."""

import math
from dataclasses import dataclass
from enum import StrEnum

from workers.niyama.calibration import Calibration
from workers.niyama.decode_length import DecodeLengths
from workers.niyama.latency import LatencyModel
from workers.niyama.lookahead import Lookahead
from workers.niyama.plan import (
    Chunk,
    Decision,
    DecisionKind,
    IterationPlan,
    IterationResult,
    Release,
)
from workers.niyama.queue import Entry, WaitingQueue, rank_of
from workers.niyama.request import Prefill, Request
from workers.niyama.state import EngineState


class TokenTiming(StrEnum):
    """What the deadline of an interactive token after the first is."""

    #: arrival + TTFT + (n - 1) * TBT, as the paper has it: an early start buys a stall.
    ENVELOPE = "envelope"
    #: TBT after the token before it.
    GAPS = "gaps"
    #: TBT after the token before it was shown; under load tokens are shown at an even pace.
    PACED = "paced"


@dataclass(frozen=True, slots=True)
class Settings:
    timing: TokenTiming = TokenTiming.PACED
    min_chunk_tokens: int = 128
    max_chunk_tokens: int = 2560
    margin_quantile: float = 0.995
    min_margin: float = 1.02
    envelope_margin: float = 1.2
    adapt: bool = True
    batch_pace_s: float = 0.1
    weight_low_s: float = 0.0
    weight_high_s: float = 0.0
    lookahead: bool = True
    relegate: bool = True
    hold_low_s: float = 0.1
    hold_load: float = 0.0
    review_s: float = 0.25
    lookahead_margin: float = 1.0
    resumes: int = 1
    base_s: float = 20.0
    share: float = 0.25
    spread: float = 0.0
    kv_growth: float = 0.25
    preempt_guard: bool = True


class NiyamaPolicy:
    def __init__(self, latency: LatencyModel, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._calibration = Calibration(latency)
        self._lengths = DecodeLengths()
        self._state = EngineState()
        self._queue = WaitingQueue()
        self._relegated = WaitingQueue()
        self._expired = WaitingQueue()
        self._lookahead = Lookahead()
        self._throughput = 0.5 / latency.large.per_prefill_token_s
        self._next_review_s = -math.inf
        self._last_end_s = 0.0
        self._gap_decodes: dict[str, float] = {}
        self._parked: set[str] = set()
        self._resumed: str | None = None
        self._decisions: list[Decision] = []
        self._saturated = False
        self._predicted_s = 0.0

    # -- arrivals -------------------------------------------------------------------------

    def add(self, request: Request, now_s: float) -> None:
        self._enqueue(self._state.add(request), now_s)

    def abort(self, request_id: str) -> None:
        self._state.abort(request_id)
        self._leave_queues(request_id)
        self._parked.discard(request_id)
        self._gap_decodes.pop(request_id, None)

    def _enqueue(self, prefill: Prefill, now_s: float) -> None:
        self._next_review_s = -math.inf
        request = prefill.request
        work = self._work(prefill)
        rank = rank_of(work, request.important)
        entry = Entry(self._due_s(request), request.request_id, work, rank)
        self._queue.push(entry)
        self._lookahead.add(request.request_id, due_s=entry.due_s, now_s=now_s, rank=rank, work=work)

    def _leave_queues(self, request_id: str) -> None:
        self._queue.remove(request_id)
        self._lookahead.remove(request_id)
        self._relegated.remove(request_id)
        self._expired.remove(request_id)

    def _due_s(self, request: Request) -> float:
        """When the prompt has to be computed."""
        if request.interactive:
            return request.deadline_s
        return request.deadline_s - self._lengths.high_tokens(request) * self._settings.batch_pace_s

    def _work(self, prefill: Prefill) -> float:
        """Prefill-equivalent tokens that the request still costs."""
        decode = self._lengths.mean_tokens(prefill.request)
        ratio = self._decode_ratio(prefill.request.prompt_tokens)
        return prefill.remaining_tokens + decode * ratio

    def _decode_ratio(self, context_tokens: float) -> float:
        """Cost of one decode token in prefill tokens."""
        small = self._calibration.model.small
        token_s = small.total_token_s + small.decode_token_s
        return (token_s + small.decode_context_token_s * context_tokens) / (
            small.per_prefill_token_s
        )

    # -- planning -------------------------------------------------------------------------

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        if self._settings.relegate:
            self._review(now_s)
        chunks = self._chunks(now_s, free_kv_tokens)
        decisions, self._decisions = tuple(self._decisions), []
        return IterationPlan(tuple(chunks), self._predicted_s, (), decisions)

    def _limit_s(self, now_s: float) -> float:
        """How long this iteration may take, by the calibrated model."""
        settings = self._settings
        bias = self._calibration.bias if settings.adapt else 1.0
        due_s = self._state.decodes.next_due_s()
        limit_s = (due_s - now_s) / settings.envelope_margin
        if settings.spread and due_s < math.inf:
            limit_s = min(limit_s, 0.05 + (due_s - now_s) / settings.spread)
        if self._gap_decodes:
            margin = 1.08
            if settings.adapt:
                margin = max(
                    settings.min_margin, self._calibration.spread(settings.margin_quantile)
                )
            gap_s = min(self._gap_decodes.values())
            limit_s = min(limit_s, (self._last_end_s + gap_s - now_s) / margin)
        return limit_s / bias

    def _chunks(self, now_s: float, free_kv_tokens: int) -> list[Chunk]:
        settings, decodes = self._settings, self._state.decodes
        limit_s = self._limit_s(now_s)
        unreserved = free_kv_tokens - len(decodes) - self._state.reserved_kv_tokens()
        room = free_kv_tokens - len(decodes)
        chunks: list[Chunk] = []
        total = context = 0
        resumes = settings.resumes
        taken: set[str] = set()
        self._saturated = False
        while True:
            prefill = self._next(now_s, resumes > 0, taken, unreserved, room)
            if prefill is None:
                break
            context_here = prefill.computed_tokens or prefill.request.cached_tokens
            most = self._most_tokens(limit_s, context + context_here)
            if not chunks:
                most = max(most, settings.min_chunk_tokens)
            most = min(most, settings.max_chunk_tokens) - total
            tokens = min(most, prefill.remaining_tokens, room)
            if tokens <= 0:
                self._saturated = True
                break
            if prefill.started:
                resumes -= 1
            else:
                unreserved -= prefill.remaining_tokens
            rid = prefill.request.request_id
            taken.add(rid)
            if self._queue.remove(rid):
                self._lookahead.commit(rid)
            self._relegated.remove(rid)
            self._expired.remove(rid)
            chunks.append(Chunk(prefill.request.request_id, tokens))
            total += tokens
            room -= tokens
            context += context_here
            if tokens < prefill.remaining_tokens:
                self._saturated = True
                break
        self._predicted_s = self._calibration.model.iteration_s(
            total, context, len(decodes), decodes.context_tokens
        )
        return chunks

    def _most_tokens(self, limit_s: float, context: int) -> int:
        if limit_s == math.inf:
            return self._settings.max_chunk_tokens
        decodes = self._state.decodes
        return self._calibration.model.max_prefill_tokens(
            limit_s, context, len(decodes), decodes.context_tokens
        )

    def _next(self, now_s: float, may_resume: bool, taken: set[str], unreserved: int, room: int) -> Prefill | None:
        weight_s = self._weight_s()
        while (head := self._queue.head(weight_s, self._lookahead.cut)) is not None:
            prefill = self._state.prefills[head.request_id]
            if not self._settings.relegate or now_s + prefill.remaining_tokens*self._calibration.model.large.per_prefill_token_s <= head.due_s:
                break
            self._relegate(head, now_s, now_s, head.due_s, "hopeless")
        else:
            prefill = None
        begun = self._best_started(weight_s, taken)
        if prefill and begun and self._goes_first(begun, head, now_s):
            prefill = None
        if prefill is not None and (prefill.remaining_tokens <= unreserved):
            return prefill
        if begun is not None:
            return begun if may_resume else None
        if prefill is not None and len(self._state.decodes)==0 and not taken and prefill.remaining_tokens <= room:
            return prefill
        if prefill is None:
            prefill= self._next_relegated(now_s)
            if prefill and prefill.remaining_tokens<=unreserved: return prefill
        return None

    def _best_started(self, weight_s: float, taken: set[str]) -> Prefill | None:
        best, best_key = None, (math.inf, "")
        for request_id, prefill in self._state.started.items():
            if request_id in taken:
                continue
            key = (self._due_s(prefill.request) + weight_s * self._work(prefill), request_id)
            if key < best_key:
                best, best_key = prefill, key
        return best

    def _goes_first(self, begun: Prefill, head: Entry, now_s: float) -> bool:
        weight_s = self._weight_s()
        key = self._due_s(begun.request) + weight_s * self._work(begun)
        return key <= head.due_s + weight_s * head.work

    def _next_relegated(self, now_s: float) -> Prefill | None:
        while (entry := self._relegated.head(0.01, 1000)) is not None:
            if now_s + entry.work / self._throughput <= entry.due_s:
                return self._state.prefills[entry.request_id]
            self._relegated.remove(entry.request_id)
            self._expired.push(entry)
        entry = self._expired.head(0.0, 1000)
        return None if entry is None else self._state.prefills[entry.request_id]

    def _weight_s(self) -> float:
        s = self._settings
        if s.weight_high_s == s.weight_low_s:
            return s.weight_low_s
        backlog_s = self._lookahead.work / self._throughput
        share = min(1.0, max(0.0, (backlog_s - 60) / 200))
        return s.weight_low_s + (s.weight_high_s - s.weight_low_s) * share

    # -- relegation -----------------------------------------------------------------------

    def _review(self, now_s: float) -> None:
        if now_s < self._next_review_s:
            return
        self._next_review_s = now_s + self._settings.review_s
        if self._settings.lookahead:
            self._lookahead.review(now_s, self._throughput, self._settings.base_s, self._settings.share)

    def _relegate(self, entry, now_s, predicted_s, due_s, reason):
        self._queue.remove(entry.request_id)
        self._lookahead.remove(entry.request_id)
        self._relegated.push(entry)
        self._decisions.append(Decision(entry.request_id, DecisionKind.RELEGATED, reason, now_s, predicted_s, due_s))

    # -- learning -------------------------------------------------------------------------

    def observe(self, result: IterationResult) -> tuple[Release, ...]:
        state = self._state
        for request_id in result.retracted:
            self._gap_decodes.pop(request_id, None)
            self._enqueue(state.retract(request_id), result.end_s)
        self._learn(result)
        state.decodes.advance()
        if self._settings.timing is TokenTiming.PACED:
            state.decodes.shift_late(result.end_s)
        self._last_end_s = result.end_s
        completed, _ = state.compute(result)
        for chunk in result.chunks:
            self._lookahead.progress(chunk.request_id, chunk.tokens)
        for prefill in completed:
            self._lookahead.remove(prefill.request.request_id)
        releases = [self._start_decode(prefill, result.end_s) for prefill in completed]
        for request_id in result.finished:
            self._finish(request_id)
        return tuple(release for release in releases if release is not None)

    def _learn(self, result: IterationResult) -> None:
        self._calibration.observe(self._predicted_s, result.duration_s)
        if self._saturated:
            decodes = self._state.decodes
            work = float(sum(chunk.tokens for chunk in result.chunks))
            if decodes:
                context = decodes.context_tokens / len(decodes)
                work += len(decodes) * self._decode_ratio(context)
            weight = min(1.0, result.duration_s / 60.0)
            self._throughput += weight * (work / result.duration_s - self._throughput)

    def _start_decode(self, prefill: Prefill, end_s: float) -> Release | None:
        request = prefill.request
        release = None
        generated = prefill.generated_tokens + 1
        if request.tbt_s is None:
            pace_s = self._settings.batch_pace_s
            left = max(1.0, self._lengths.high_tokens(request) - generated)
            next_due_s = max(end_s, request.deadline_s - left * pace_s) + pace_s
        else:
            pace_s = request.tbt_s
            next_due_s, release = self._schedule(prefill, end_s)
        self._state.decodes.add(
            request,
            next_due_s=next_due_s,
            pace_s=pace_s,
            context_tokens=prefill.computed_tokens + 1,
            generated_tokens=generated,
        )
        return release

    def _schedule(self, prefill: Prefill, end_s: float) -> tuple[float, Release | None]:
        request = prefill.request
        assert request.tbt_s is not None
        timing = self._settings.timing
        if timing is TokenTiming.ENVELOPE:
            return request.deadline_s + (prefill.generated_tokens + 1) * request.tbt_s, None
        if timing is TokenTiming.GAPS:
            self._gap_decodes[request.request_id] = request.tbt_s
            return math.inf, None
        left_s = request.deadline_s - end_s
        hold_s = min(max(0.0, left_s), self._settings.hold_low_s + self._settings.hold_load * max(0.0, left_s))
        release = Release(request.request_id, end_s + hold_s, request.tbt_s)
        return end_s + hold_s + request.tbt_s, release

    def _finish(self, request_id: str) -> None:
        if request_id in self._state.decodes:
            request, generated = self._state.decodes.remove(request_id)
            self._lengths.observe(request, generated)
        self.abort(request_id)
