"""The Niyama policy: which prompts, and how much of them, join the decodes in each iteration."""

import math

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.policy.batch import PrefillBatch
from workers.policy.calibration import Calibration
from workers.policy.decision import Forecast
from workers.policy.decode_length import DecodeLengths
from workers.policy.expiry import Expiries
from workers.policy.journal import Journal
from workers.policy.lookahead import NO_CUT, Lookahead
from workers.policy.pacing import schedule
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.queue import Entry, WaitingQueue, rank_of
from workers.policy.release import Release
from workers.policy.request import Prefill, Request
from workers.policy.settings import Overload, Settings, TokenTiming
from workers.policy.state import EngineState
from workers.policy.throughput import Throughput

#: Time between two looks ahead when nothing arrives, seconds.
_REVIEW_S = 0.25


class NiyamaPolicy:
    """One replica's scheduler. Holds the whole queue; all times are on the caller's clock."""

    def __init__(self, latency: LatencyModel, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.calibration = Calibration(latency)
        self.lengths = DecodeLengths()
        self._state = EngineState()
        self._waiting = WaitingQueue()
        self._overdue = WaitingQueue()
        self._expiries = Expiries()
        self._lookahead = Lookahead(
            base_s=self.settings.lookahead_base_s, share=self.settings.lookahead_share
        )
        self._throughput = Throughput(latency)
        self._journal = Journal()
        self._next_review_s = -math.inf
        self._last_end_s = -math.inf
        #: Decodes whose next token is due TBT after the last iteration.
        self._unpaced: dict[str, float] = {}
        self._batch: PrefillBatch | None = None

    # Arrivals

    def add(self, request: Request, now_s: float) -> None:
        self._expiries.add(request)
        self._enqueue(self._state.add(request), now_s)

    def abort(self, request_id: str) -> None:
        self._state.abort(request_id)
        self._waiting.remove(request_id)
        self._overdue.remove(request_id)
        self._expiries.remove(request_id)
        self._lookahead.remove(request_id)
        self._unpaced.pop(request_id, None)
        self._journal.forget(request_id)

    def retract(self, request_id: str, now_s: float) -> None:
        """The engine took the KV of a request back: it waits again.

        Requests that have no KV, and unknown ones, are ignored.
        """
        if request_id in self._state.decodes:
            self._unpaced.pop(request_id, None)
            self._enqueue(self._state.retract(request_id), now_s)
        elif (prefill := self._state.started.pop(request_id, None)) is not None:
            self._lookahead.remove(request_id)
            prefill.lose_kv()
            self._enqueue(prefill, now_s)

    def correct(self, request_id: str, *, held_tokens: int, remaining_tokens: int) -> None:
        """The engine's own count of a prompt: tokens it holds or has cached, tokens to compute.

        Ids that are no prompts here are ignored.
        """
        prefill = self._state.prefills.get(request_id)
        if prefill is not None:
            prefill.correct(held_tokens, remaining_tokens)

    @property
    def decodes(self) -> int:
        """Requests that are generating."""
        return len(self._state.decodes)

    def backlog_s(self) -> float:
        """Time that the waiting work takes at the present throughput, seconds."""
        return self._lookahead.work / self._throughput.tokens_per_s

    def _enqueue(self, prefill: Prefill, now_s: float) -> None:
        request = prefill.request
        work = self._work(prefill)
        rank = rank_of(
            request.request_id,
            work,
            important=request.qos.is_important,
            size_bias=self.settings.size_bias,
        )
        prefill.due_s = self._due_s(prefill)
        entry = Entry(prefill.due_s, request.request_id, work, rank)
        self._waiting.push(entry)
        self._lookahead.add(
            request.request_id, due_s=entry.due_s, now_s=now_s, rank=rank, work=work
        )
        self._journal.queued(entry)
        self._next_review_s = -math.inf

    def _due_s(self, prefill: Prefill) -> float:
        """When the prompt has to be computed: a batch answer needs time after it.

        At most half of its time, so that a guessed length never makes a short deadline hopeless.
        """
        request = prefill.request
        qos = request.qos
        if qos.is_interactive:
            return qos.deadline_s + prefill.generated_tokens * qos.tbt_s
        answer_s = self.lengths.high_tokens(request) * self.settings.batch_tbt_s
        return qos.deadline_s - min(answer_s, (qos.deadline_s - qos.arrival_s) / 2)

    def _work(self, prefill: Prefill) -> float:
        """Prefill-equivalent tokens that the request still costs."""
        request = prefill.request
        decode_tokens = self.lengths.mean_tokens(request)
        return self._throughput.work(prefill.remaining_tokens, decode_tokens, request.prompt_tokens)

    # Planning

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        self._expire(now_s)
        self._review(now_s)
        batch = self._batch = self._new_batch(now_s, free_kv_tokens)
        give_back: list[str] = []
        self._make_room_for_decodes(batch, give_back, now_s)
        while (prefill := self._next(now_s, batch, give_back)) is not None:
            if not batch.take(prefill):
                break
            self._begin(prefill, now_s)
        if batch.chunks and batch.full:
            self._begin(self._state.prefills[batch.chunks[-1].request_id], now_s)
        chunks = tuple(batch.chunks)
        self._journal.planned(chunks, self._state.started, unfinished=batch.full, now_s=now_s)
        predicted_s = batch.predicted_s() * self._bias()
        decisions = self._journal.take()
        return IterationPlan(chunks, predicted_s, tuple(give_back), batch.full, decisions)

    def _new_batch(self, now_s: float, free_kv_tokens: int) -> PrefillBatch:
        decodes = self._state.decodes
        free = free_kv_tokens - len(decodes)
        growth = int(self.settings.kv_growth_share * decodes.expected_tokens)
        limit_s = self._limit_s(now_s)
        return PrefillBatch(
            self.calibration.model,
            limit_s=limit_s,
            min_tokens=self.settings.min_chunk_tokens if limit_s else 0,
            max_tokens=self.settings.max_chunk_tokens,
            decodes=len(decodes),
            decode_context=decodes.context_tokens,
            free_kv_tokens=free,
            admissible_kv_tokens=free - self._state.reserved_kv_tokens() - growth,
        )

    def _limit_s(self, now_s: float) -> float:
        """How long this iteration may take, in the uncalibrated model's seconds; 0: no prompts."""
        limit_s = self._slack_limit_s(now_s)
        if self._unpaced:
            gap_s = self._last_end_s + min(self._unpaced.values()) - now_s
            limit_s = min(limit_s, gap_s / self._gap_margin() / self._bias())
        return limit_s

    def _slack_limit_s(self, now_s: float) -> float:
        """The most urgent decode's slack, spent evenly over the tokens that it still has to come.

        Answers end sooner than expected as often as not, and slack that is left is lost: so over
        the expected length, and over `slack_spread_tokens` where that is less.
        """
        settings, bias = self.settings, self._bias()
        urgent = self._state.decodes.most_urgent()
        if urgent is None or urgent.due_s == math.inf:
            return math.inf
        slack_s = (urgent.due_s - now_s) / bias
        affordable_s = slack_s / settings.slack_margin
        if not settings.slack_spread_tokens:
            return affordable_s
        tokens = min(float(settings.slack_spread_tokens), max(1.0, urgent.expected_tokens))
        equal_s = urgent.pace_s / bias + slack_s / tokens
        step_s = self._large_step_s(equal_s) if slack_s > 0 else None
        if step_s is None:
            return min(equal_s, affordable_s)
        return step_s if step_s <= affordable_s else 0.0

    def _large_step_s(self, mean_s: float) -> float | None:
        """See `LatencyModel.large_step_s`; None unless enough waits to fill a large batch."""
        settings, decodes, model = self.settings, self._state.decodes, self.calibration.model
        if not settings.alternate or self._lookahead.work < model.split_tokens:
            return None
        context = max((p.computed_tokens for p in self._state.started.values()), default=0)
        return model.large_step_s(
            mean_s,
            context,
            len(decodes),
            decodes.context_tokens,
            max_tokens=settings.max_chunk_tokens,
        )

    def _gap_margin(self) -> float:
        return self.calibration.margin(self.settings.in_time_quantile)

    def _bias(self) -> float:
        return self.calibration.bias if self.settings.calibrate else 1.0

    def _next(self, now_s: float, batch: PrefillBatch, give_back: list[str]) -> Prefill | None:
        """The prompt to add to the batch; None when there is none that may be added."""
        weight_s = self._weight_s()
        begun = self._most_urgent_begun(batch, weight_s)
        head = self._head(now_s, weight_s)
        if begun is not None and head is not None and self._goes_first(begun, head, weight_s):
            head = None
        if head is not None:
            prefill = self._state.prefills[head.request_id]
            if not batch.admits(prefill):
                self._make_room(prefill, batch, give_back, now_s)
            if batch.admits(prefill):
                return prefill
        if begun is not None:
            return None if begun.request.request_id in give_back else begun
        if head is not None:
            return None
        overdue = self._overdue.head(cut=NO_CUT)
        prefill_or_none = self._state.prefills[overdue.request_id] if overdue else None
        return prefill_or_none if prefill_or_none and batch.admits(prefill_or_none) else None

    def _head(self, now_s: float, weight_s: float) -> Entry | None:
        """The most urgent waiting prompt that can still be met."""
        if self.settings.overload is Overload.NONE:
            return self._waiting.head(cut=NO_CUT)
        token_s = self.calibration.model.large.per_prefill_token_s * self._bias()
        while (head := self._waiting.head(cut=self._cut(), weight_s=weight_s)) is not None:
            finish_s = now_s + self._state.prefills[head.request_id].remaining_tokens * token_s
            if finish_s <= head.due_s:
                return head
            self._waiting.remove(head.request_id)
            self._lookahead.remove(head.request_id)
            self._overdue.push(head._replace(rank=0))
            forecast = self._forecast(head.request_id, self.backlog_s(), now_s)
            self._journal.relegated(head.request_id, "too late to be met", now_s, forecast)
        return None

    def _most_urgent_begun(self, batch: PrefillBatch, weight_s: float) -> Prefill | None:
        best, best_key = None, (math.inf, "")
        for request_id, prefill in self._state.started.items():
            if batch.holds(request_id):
                continue
            key = (self._begun_key(prefill, weight_s), request_id)
            if key < best_key:
                best, best_key = prefill, key
        return best

    def _begun_key(self, prefill: Prefill, weight_s: float) -> float:
        return prefill.due_s + (weight_s * self._work(prefill) if weight_s else 0.0)

    def _goes_first(self, begun: Prefill, head: Entry, weight_s: float) -> bool:
        if not self.settings.park:
            return True
        if head.rank > self._cut():
            return True
        return self._begun_key(begun, weight_s) <= head.due_s + weight_s * head.work

    def _make_room(
        self, prefill: Prefill, batch: PrefillBatch, give_back: list[str], now_s: float
    ) -> None:
        """Take KV from prompts in progress that are less urgent, the least urgent first."""
        if not self.settings.give_back or not prefill.request.qos.is_interactive:
            return
        for victim in self._least_urgent_begun(batch):
            if batch.admits(prefill) or victim.due_s <= prefill.due_s:
                return
            self._give_back(victim, batch, give_back, "memory for a closer deadline", now_s)

    def _make_room_for_decodes(
        self, batch: PrefillBatch, give_back: list[str], now_s: float
    ) -> None:
        """Decodes go on at the cost of prompts in progress: more of their work is done."""
        for victim in self._least_urgent_begun(batch):
            if batch.free_kv_tokens >= 0:
                return
            self._give_back(victim, batch, give_back, "memory for running decodes", now_s)

    def _least_urgent_begun(self, batch: PrefillBatch) -> list[Prefill]:
        begun = (p for p in self._state.started.values() if not batch.holds(p.request.request_id))
        return sorted(begun, key=lambda p: (-p.due_s, p.request.request_id))

    def _give_back(
        self,
        victim: Prefill,
        batch: PrefillBatch,
        give_back: list[str],
        reason: str,
        now_s: float,
    ) -> None:
        request_id = victim.request.request_id
        batch.give_back(victim)
        give_back.append(request_id)
        self._lookahead.remove(request_id)
        del self._state.started[request_id]
        victim.lose_kv()
        self._enqueue(victim, now_s)
        self._journal.gave_back(request_id, reason, now_s)

    def _begin(self, prefill: Prefill, now_s: float) -> None:
        request_id = prefill.request.request_id
        in_time = self._waiting.remove(request_id) is not None
        if in_time or self._overdue.remove(request_id) is not None:
            self._lookahead.begin(request_id)
            self._journal.begun(request_id, now_s, in_time=in_time)

    def _weight_s(self) -> float:
        """HYBRID's control law: the weight rises linearly between backlogs of 60 s and 260 s."""
        if self.settings.overload is not Overload.HYBRID:
            return 0.0
        low_s, high_s = self.settings.srpf_weight_low_s, self.settings.srpf_weight_high_s
        share = min(1.0, max(0.0, (self.backlog_s() - 60.0) / 200.0))
        return max(low_s, high_s * share)

    # Relegation and expiry

    def _expire(self, now_s: float) -> None:
        for request_id in self._expiries.take_due(now_s):
            request = self._state.prefills[request_id].request
            forecast = self._forecast_last(request_id, now_s)
            self.abort(request_id)
            self._journal.expired(request, now_s, forecast)

    def _review(self, now_s: float) -> None:
        if now_s >= self._next_review_s:
            self._next_review_s = now_s + _REVIEW_S
            self._lookahead.review(now_s, self._throughput.tokens_per_s)
        if self._cut() < NO_CUT:
            self._journal.beyond_cut(
                self._cut(), self._waiting, now_s, lambda i: self._forecast_last(i, now_s)
            )

    def _forecast_last(self, request_id: str, now_s: float) -> Forecast:
        """Of a waiting request that comes after all the other work."""
        own_s = self._work(self._state.prefills[request_id]) / self._throughput.tokens_per_s
        return self._forecast(request_id, max(0.0, self.backlog_s() - own_s), now_s)

    def _forecast(self, request_id: str, queue_wait_s: float, now_s: float) -> Forecast:
        prefill = self._state.prefills[request_id]
        finish_s = now_s + queue_wait_s + prefill.remaining_tokens / self._throughput.tokens_per_s
        if not prefill.request.qos.is_interactive:
            finish_s += self.lengths.mean_tokens(prefill.request) * self.settings.batch_tbt_s
        return Forecast(queue_wait_s, finish_s)

    def _cut(self) -> int:
        return self._lookahead.cut if self.settings.overload is Overload.CUT else NO_CUT

    # Learning

    def observe(self, result: IterationResult) -> dict[str, Release]:
        for request_id in result.retracted:
            self.retract(request_id, result.end_s)
        self._learn(result)
        decodes = self._state.decodes
        if result.decoded:
            decodes.advance()
        if result.decoded and self.settings.timing is TokenTiming.PACED:
            decodes.shift_late(result.end_s)
        if result.decoded or not decodes:
            self._last_end_s = result.end_s
        for chunk in result.chunks:
            self._computed(chunk, result.end_s)
        completed, _ = self._state.compute(result)
        self._requeue_untaken(result)
        releases = {
            prefill.request.request_id: self._start_decode(prefill, result.end_s)
            for prefill in completed
        }
        for request_id in result.finished:
            self._finish(request_id)
        return {i: release for i, release in releases.items() if release is not None}

    def _computed(self, chunk: Chunk, end_s: float) -> None:
        """Also what was not planned: the engine has the last word."""
        prefill = self._state.prefills.get(chunk.request_id)
        if prefill is not None:
            self._begin(prefill, end_s)
            self._expiries.remove(chunk.request_id)
            self._lookahead.progress(chunk.request_id, chunk.tokens)

    def _requeue_untaken(self, result: IterationResult) -> None:
        """What was planned and not computed (the engine had no room after all) waits again."""
        if self._batch is None:
            return
        for chunk in self._batch.chunks:
            prefill = self._state.prefills.get(chunk.request_id)
            if prefill is not None and not prefill.started:
                self._lookahead.remove(chunk.request_id)
                self._enqueue(prefill, result.end_s)

    def _learn(self, result: IterationResult) -> None:
        batch, decodes = self._batch, self._state.decodes
        if batch is None or result.duration_s <= 0:  # nothing ran
            return
        self.calibration.observe(batch.predicted_s(), result.duration_s)
        if batch.full:
            tokens = sum(chunk.tokens for chunk in result.chunks)
            context = decodes.context_tokens
            self._throughput.observe(Sample(tokens, 0, len(decodes), context, result.duration_s))

    def measured(self, ran: Sample, *, full: bool) -> None:
        """What an iteration took, for engines that know it only after the plans that follow it.

        `full` as in its plan.
        """
        predicted_s = self.calibration.model.iteration_s(*ran[:4])
        self.calibration.observe(predicted_s, ran.duration_s)
        if full:
            self._throughput.observe(ran)

    def use(self, model: LatencyModel) -> None:
        """Go on with another latency model, such as one fitted to what was measured."""
        self.calibration = Calibration(model)
        self._throughput = Throughput(model)

    def _start_decode(self, prefill: Prefill, end_s: float) -> Release | None:
        request, generated = prefill.request, prefill.generated_tokens + 1
        self._lookahead.remove(request.request_id)
        release = None
        if not request.qos.is_interactive:
            pace_s = self.settings.batch_tbt_s
            to_come = max(1.0, self.lengths.high_tokens(request) - generated)
            due_s: float | None = max(end_s, request.qos.deadline_s - to_come * pace_s) + pace_s
        else:
            pace_s = request.qos.tbt_s
            due_s, release = schedule(prefill, end_s, self._lookahead.pressure, self.settings)
            if due_s is None:
                self._unpaced[request.request_id] = pace_s
        self._state.decodes.add(
            request,
            next_due_s=math.inf if due_s is None else due_s,
            pace_s=pace_s,
            context_tokens=prefill.computed_tokens,
            generated_tokens=generated,
            expected_tokens=self.lengths.mean_tokens(request),
        )
        return release

    def _finish(self, request_id: str) -> None:
        if request_id in self._state.decodes:
            request, generated = self._state.decodes.remove(request_id)
            self.lengths.observe(request, generated)
        self.abort(request_id)
