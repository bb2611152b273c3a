"""SGLang's scheduler with Niyama's decisions: tell the policy, plan, hand over.

The seams are SGLang 0.5.23's; `tests/contract/test_sglang_seams.py` fails when one disappears.

SGLang's `waiting_queue` has every waiting request, in order of arrival, so that abort, pause,
flush, idle checks, timeouts and metrics are SGLang's own. The policy keeps their order; while a
batch is made, SGLang sees only the requests that the plan admits.

Parking gives a prompt in progress back to the waiting queue. What it has computed stays in the
radix cache, where its next admission finds it, unlocked: short of memory, SGLang takes it back
like any cached prefix. The policy is told what the cache really has before a prompt is computed.
"""

import os
from dataclasses import replace
from itertools import islice
from typing import Any

from sglang.srt.managers.io_struct import AbortReq
from sglang.srt.managers.schedule_batch import FINISH_ABORT, Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.managers.scheduler import NextBatchPlan, Scheduler
from sglang.srt.mem_cache.common import match_kv_cache, release_kv_cache, touch_waiting_prefix
from sglang.srt.utils.rank_consensus_checker import rank_consensus

from workers.latency.learner import FIRST_GUESS, LatencyLearner
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.policy.plan import IterationPlan
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import RequestQos, from_custom_params
from workers.policy.request import Request
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.decisions import ADDRESS_VARIABLE, DecisionSender, as_finish_reason
from workers.runtime.driver import Computed, Launched, PolicyDriver
from workers.runtime.handover import Handover, Planned, hand_over
from workers.runtime.iteration_timer import IterationTimer
from workers.runtime.latency_file import LatencyFile
from workers.runtime.ranks import SharedClock, from_first_rank, is_first_rank
from workers.runtime.release import RELEASE_KEY
from workers.runtime.settings import SchedulingSettings
from workers.runtime.support import check_supported, check_timing, latency_subject

SCHEDULER_INFO_KEY = "niyama"
"""In what a scheduler process reports when it is ready: that this scheduler is the one in it."""

_MIN_CHUNK_TOKENS = 128
"""Prompts go on by this much even when decodes leave no slack; less where chunks are small."""
_DELIVERY_SHARE = 0.05
"""Of a TBT: two processes pass a token on before its reader sees it, some sooner, some later."""
_TOUCH_INTERVAL = 32
"""Plans between two refreshes of the parked prefixes' place in the cache's eviction order."""
_TOLD = {DecisionKind.RELEGATED, DecisionKind.RESTORED}
"""What the policy alone knows. Started, parked and resumed are told as SGLang carries them out."""


class NiyamaScheduler(Scheduler):  # type: ignore[misc]
    """Orders, parks and sizes prefills by the policy; everything else is SGLang's own."""

    waiting_queue: list[Req]
    chunked_req: Req | None
    """The one prefill in progress that SGLang tracks."""
    chunked_prefill_size: int
    """The most tokens of one iteration."""

    def init_schedule_policy(self) -> None:
        check_supported(self)
        super().init_schedule_policy()
        self.policy = _PlannedPolicy(self.tree_cache, self.enable_hierarchical_cache)
        self._latency_file = LatencyFile(latency_subject(self), os.environ)
        learner = LatencyLearner(from_first_rank(self._latency_file.load))
        self._decisions = DecisionSender.from_environment(is_first_rank())
        wanted = SchedulingSettings()
        check_timing(wanted.token_timing, has_worker=ADDRESS_VARIABLE in os.environ)
        self._paces = wanted.token_timing is TokenTiming.PACED
        settings = Settings(
            timing=wanted.token_timing,
            size_bias=wanted.size_bias,
            min_chunk_tokens=min(_MIN_CHUNK_TOKENS, max(1, self.chunked_prefill_size // 4)),
            max_chunk_tokens=self.chunked_prefill_size,
        )
        model = learner.model()
        self.latency_is_known = model is not None
        self._driver = PolicyDriver(NiyamaPolicy(model or FIRST_GUESS, settings), learner)
        self._learner = learner
        self._clock = SharedClock()
        self._timer = IterationTimer()
        self._now_s = self._clock.now_s()
        self._busy_until_s = 0.0
        self._requests: dict[str, Req] = {}
        self._others: list[Req] | None = None
        self._making_way: list[Req] = []
        self._kept: dict[str, int] = {}
        self._plans = 0

    def get_init_info(self) -> dict[str, Any]:
        info = {"latency_is_known": self.latency_is_known}
        return {**super().get_init_info(), SCHEDULER_INFO_KEY: info}

    # ---- the waiting queue

    def process_input_requests(self, recv_reqs: list[Any]) -> None:
        if recv_reqs:
            self._now_s = self._clock.now_s()
        super().process_input_requests(recv_reqs)

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        is_new = not hasattr(req, "niyama")
        if is_new:
            self._read_qos(req)
        super()._add_request_to_queue(req, is_retracted)
        if not self.waiting_queue or self.waiting_queue[-1] is not req:
            return  # SGLang refused it
        if self._others is not None:  # it arrived while a batch is being made without it
            self._others.append(self.waiting_queue.pop())
        self._requests[req.rid] = req
        if is_new:
            self._driver.arrived(self._policy_request(req), self._now_s)
        elif not req.niyama.parked:
            self._driver.retracted(req.rid, self._now_s)

    def _read_qos(self, req: Req) -> None:
        """Note the request's quality of service; what is unreadable is answered with the reason."""
        try:
            read = from_custom_params(req.sampling_params.custom_params, self._now_s)
        except ValueError as error:
            read = from_custom_params(None, self._now_s)
            req.set_finish_with_abort(str(error))
        req.niyama = _Progress(read)

    def _policy_request(self, req: Req) -> Request:
        qos = req.niyama.qos
        return Request(
            request_id=req.rid,
            qos=replace(qos, tbt_s=qos.tbt_s * (1 - _DELIVERY_SHARE)),
            prompt_tokens=len(req.origin_input_ids),
            cached_tokens=self._cached_tokens(req),
            max_output_tokens=req.sampling_params.max_new_tokens,
        )

    def _abort_on_queued_limit(self, recv_req: Req) -> bool:
        # A parked request was admitted once; a full queue must not turn it away now.
        return not recv_req.niyama.parked and super()._abort_on_queued_limit(recv_req)

    def send_abort_output(self, abort_req: Any, req: Req) -> None:
        """SGLang reports every request here that it drops outside a batch."""
        super().send_abort_output(abort_req, req)
        self._leaves_queue(req)
        self._driver.gone(req.rid)

    def _leaves_queue(self, req: Req) -> None:
        self._requests.pop(req.rid, None)
        self._kept.pop(req.rid, None)

    def _drop_expired(self, plan: IterationPlan) -> None:
        """What the policy gave up leaves as SGLang's own aborted requests do, with the reason."""
        expired = {
            decision.request_id: decision
            for decision in plan.decisions
            if decision.kind is DecisionKind.EXPIRED and decision.request_id in self._requests
        }
        if expired:
            self.waiting_queue = [req for req in self.waiting_queue if req.rid not in expired]
        for request_id, decision in expired.items():
            req = self._requests[request_id]
            self._release_aborted_request(req)
            self.beam_coordinator.retire_group(req)
            told = self._told(req, DecisionKind.EXPIRED, decision.reason, decision.forecast)
            answer = AbortReq(rid=req.rid, finished_reason=as_finish_reason(told))
            self.send_abort_output(answer, req)
            if req.kv.holds_mamba:
                release_kv_cache(req, self.tree_cache, checkpoint=False)

    # ---- one iteration

    def get_new_batch_prefill(self, running_batch: ScheduleBatch) -> NextBatchPlan:
        if not self._has_work(running_batch):
            return self._make_batch(running_batch, Handover())
        self._synchronize()
        start_s = self._start_s()
        plan = self._plan(self._now_s, start_s, self._free_kv_tokens())
        self._busy_until_s = start_s + plan.predicted_s
        self._drop_expired(plan)
        self._apply_give_back(plan)
        self._note_policy(plan)
        handover = self._hand_over(plan, running_batch)
        batch = self._make_batch(running_batch, handover)
        if handover.park and batch.batch_to_run is None and self._making_way:
            # There was no memory for anybody else: it goes on after all.
            self.chunked_req = self._making_way.pop()
            tokens = handover.prefill_tokens
            going_on = Handover(prefill_tokens=tokens, in_progress_tokens=tokens)
            batch = self._make_batch(batch.running_batch, going_on)
        elif handover.park:
            self._note_parked(self._making_way[-1], plan)
        self._decisions.flush()
        return batch

    @rank_consensus(same_params=True, same_results=True)  # type: ignore[untyped-decorator]
    def _plan(self, now_s: float, start_s: float, free_kv_tokens: int) -> IterationPlan:
        """Alike on every rank: SGLang's own checker sees to it, where it is on."""
        return self._driver.plan(now_s, start_s, free_kv_tokens)

    def _has_work(self, running_batch: ScheduleBatch) -> bool:
        waiting = self.waiting_queue or self.chunked_req or running_batch.reqs
        return bool(waiting) or not self._driver.idle

    def _synchronize(self) -> None:
        """Take time and measurements from the first rank, so that all ranks plan alike."""
        self._now_s, durations_s = self._clock.share(self._timer.take())
        model = self._driver.measured(durations_s)
        if model is not None and is_first_rank():
            self._latency_file.save(self._learner.samples, model, self.max_total_num_tokens)

    def _start_s(self) -> float:
        """When the device can start the iteration that is planned now."""
        in_flight = not self._runs_in_step and self.result_queue
        return max(self._now_s, self._busy_until_s) if in_flight else self._now_s

    @property
    def _runs_in_step(self) -> bool:
        """The forward pass is over when SGLang has launched it."""
        return bool(self.device == "cpu")

    def _free_kv_tokens(self) -> int:
        """What the cache could give, less what the policy counts as held by parked requests."""
        budget = self.token_to_kv_pool_allocator.create_prefill_budget(self.tree_cache)
        return int(budget.remaining_current) - sum(self._kept.values())

    def _make_batch(self, running_batch: ScheduleBatch, handover: Handover) -> NextBatchPlan:
        """Let SGLang make the batch from what it is handed, and from nothing else."""
        if handover.park:
            self._making_way.append(self.chunked_req)
            self.chunked_req = None
        elif self.chunked_req is not None and not handover.in_progress_tokens:
            return NextBatchPlan(batch_to_run=None, running_batch=running_batch)
        most_tokens = self.chunked_prefill_size
        handed = [self._requests[request_id] for request_id in handover.order]
        self._others, self.waiting_queue = self.waiting_queue, list(handed)
        decodes = len(running_batch.reqs) if self.is_mixed_chunk else 0
        self.chunked_prefill_size = handover.prefill_tokens + decodes
        self.policy.in_progress_limit_tokens = handover.in_progress_tokens or None
        try:
            batch = super().get_new_batch_prefill(running_batch)
        finally:
            left, self.waiting_queue, self._others = self.waiting_queue, self._others, None
            self.chunked_prefill_size = most_tokens
        self._admitted(handed, left)
        if batch.batch_to_run is not None and batch.batch_to_run.prefill_stats is not None:
            batch.batch_to_run.prefill_stats.num_pending_tokens = self._pending_tokens()
        return batch

    def _admitted(self, handed: list[Req], left: list[Req]) -> None:
        for req in handed:
            if req not in left:
                self.waiting_queue.remove(req)
                self._leaves_queue(req)

    def _pending_tokens(self) -> int:
        """As SGLang counts them, of the whole queue."""
        extending = self.chunked_req.extend_len if self.chunked_req is not None else 0
        return int(self.load_inquirer._get_num_pending_tokens(chunk_deduct=extending))

    def run_batch(self, batch: ScheduleBatch, *args: Any, **kwargs: Any) -> Any:
        self._note_launched(batch)
        result = super().run_batch(batch, *args, **kwargs)
        if self._runs_in_step:
            self._timer.ended(self._clock.own_s())
        return result

    def process_batch_result(self, batch: ScheduleBatch, result: Any) -> None:
        if self._paces:
            self._attach_releases(batch)
        super().process_batch_result(batch, result)
        if not self._runs_in_step:
            self._timer.ended(self._clock.own_s())
        for req in batch.reqs:
            if isinstance(req.finished_reason, FINISH_ABORT):
                self._driver.gone(req.rid)
            elif req.finished():
                self._driver.finished(req.rid)
        if self._making_way:
            self._requeue_parked()

    def _attach_releases(self, batch: ScheduleBatch) -> None:
        """Let each prompt's first token say when it, and those after it, are to be shown."""
        if not self.enable_overlap:  # else the plan of the next iteration, made before, has told
            self._driver.tell(self._clock.now_s())
        if releases := self._driver.take_releases():
            for req in batch.reqs:
                if (release := releases.get(req.rid)) is not None:
                    req.customized_info = {RELEASE_KEY: [tuple(release)]}

    def _requeue_parked(self) -> None:
        """Queue the parked requests whose last chunk has run; overlapped, that is a step later."""
        ready = [req for req in self._making_way if req.inflight_middle_chunks == 0]
        self._making_way = [req for req in self._making_way if req.inflight_middle_chunks > 0]
        for req in ready:
            held_tokens = req.prefix_len
            # SGLang has put every finished chunk into the radix cache already.
            release_kv_cache(req, self.tree_cache, checkpoint=False)
            req.reset_for_retract()
            req.niyama.parked = True
            self._add_request_to_queue(req, is_retracted=True)
            if req.niyama.keeps_kv:
                self._kept[req.rid] = held_tokens

    def is_fully_idle(self, for_health_check: bool = False, ignore_waiting: bool = False) -> bool:
        return not self._making_way and super().is_fully_idle(for_health_check, ignore_waiting)

    # ---- what a batch is made from

    def _hand_over(self, plan: IterationPlan, running_batch: ScheduleBatch) -> Handover:
        self._touch_parked()
        decodes = len(running_batch.reqs) if self.is_mixed_chunk else 0
        planned = [self._planned(chunk.request_id, chunk.tokens) for chunk in plan.chunks]
        chunked = self.chunked_req
        return hand_over(
            [chunk for chunk in planned if chunk is not None],
            chunked.rid if chunked is not None else None,
            can_park=chunked is not None and self._can_park(chunked, running_batch),
            room_tokens=self.chunked_prefill_size - decodes,
            page_tokens=self.truncation_align_size or self.page_size,
        )

    def _planned(self, request_id: str, tokens: int) -> Planned | None:
        """A chunk of the plan with the truth about its prompt; None when SGLang has it no more."""
        chunked = self.chunked_req
        if chunked is not None and chunked.rid == request_id:
            return Planned(request_id, tokens, _total_tokens(chunked) - chunked.prefix_len)
        req = self._requests.get(request_id)
        if req is None:
            self._driver.gone(request_id)
            return None
        return Planned(request_id, tokens, _total_tokens(req) - self._cached_tokens(req))

    def _cached_tokens(self, req: Req) -> int:
        """Tokens of a waiting request that its admission would find in the prefix cache."""
        if req.session is not None:  # a session brings its own
            return 0
        match_kv_cache(req, self.tree_cache)
        return int(req.num_matched_prefix_tokens)

    def _touch_parked(self) -> None:
        """Keep what parked requests have computed from being the first to be evicted."""
        self._plans += 1
        if self._plans % _TOUCH_INTERVAL == 0:
            for request_id in self._kept:
                touch_waiting_prefix(self._requests[request_id], self.tree_cache)

    def _apply_give_back(self, plan: IterationPlan) -> None:
        """From here on the cache may evict what these requests have computed."""
        for request_id in plan.give_back:
            self._kept.pop(request_id, None)
            if self.chunked_req is not None and self.chunked_req.rid == request_id:
                self.chunked_req.niyama.keeps_kv = False

    def _can_park(self, req: Req, running_batch: ScheduleBatch) -> bool:
        """Whether `req` could be taken up again later, and somebody else be admitted now."""
        is_full = running_batch.batch_is_full and not running_batch.is_empty()
        return (
            not is_full
            and self.tree_cache.supports_prefix_sharing()
            # It negotiates with other ranks once per pass; parking may take two.
            and self.prefill_delayer is None
            and not req.skip_radix_cache_insert
            and req.session is None
            and req.input_embeds is None
            and req.positional_embed_overrides is None
            # Log probabilities of the prompt would have to be computed again.
            and not (req.return_logprob and 0 <= req.logprob_start_len < len(req.origin_input_ids))
        )

    # ---- what is told

    def _note_launched(self, batch: ScheduleBatch) -> None:
        """Tell the driver what this batch computes, and which requests begin or go on with it."""
        self._timer.launched(self._clock.own_s(), after_idle=self._sched_idled)
        if batch.forward_mode.is_extend():
            decoding = batch.decoding_reqs or ()
            prefilling = list(islice(batch.reqs, len(batch.reqs) - len(decoding)))
        else:
            decoding, prefilling = batch.reqs, []
        for req in prefilling:
            self._note_prefill(req)
        self._decisions.flush()
        self._driver.launched(
            Launched(
                chunks=tuple(_computed(req) for req in prefilling),
                decodes=len(decoding),
                decode_context=sum(req.seqlen for req in decoding),
            )
        )

    def _note_prefill(self, req: Req) -> None:
        if not req.niyama.started:
            req.niyama.started = True
            self._note(req, DecisionKind.STARTED)
        elif req.niyama.parked:
            self._note(req, DecisionKind.RESUMED)
        req.niyama.parked, req.niyama.keeps_kv = False, True

    def _note_parked(self, req: Req, plan: IterationPlan) -> None:
        reasons = [d.reason for d in plan.decisions if d.request_id == req.rid]
        self._note(req, DecisionKind.PARKED, ", ".join(reasons))

    def _note_policy(self, plan: IterationPlan) -> None:
        for decision in plan.decisions:
            req = self._requests.get(decision.request_id)
            if decision.kind in _TOLD and req is not None:
                self._note(req, decision.kind, decision.reason, decision.forecast)

    def _note(
        self, req: Req, kind: DecisionKind, reason: str = "", forecast: Forecast | None = None
    ) -> None:
        self._decisions.add(self._told(req, kind, reason, forecast))

    def _told(
        self, req: Req, kind: DecisionKind, reason: str, forecast: Forecast | None
    ) -> Decision:
        return Decision(req.rid, kind, self._now_s, reason, forecast)


class _Progress:
    """What Niyama remembers of a request, as `req.niyama`."""

    __slots__ = ("keeps_kv", "parked", "qos", "started")

    def __init__(self, qos: RequestQos) -> None:
        self.qos = qos
        self.started = False
        #: It waits after it was parked, or is about to.
        self.parked = False
        #: The policy counts on what it has computed.
        self.keeps_kv = True


class _PlannedPolicy(SchedulePolicy):  # type: ignore[misc]
    """First come first served leaves the queue in our order; the chunk limit is the plan's."""

    def __init__(self, tree_cache: Any, enable_hierarchical_cache: bool) -> None:
        super().__init__("fcfs", tree_cache, enable_hierarchical_cache, False, False)
        self.in_progress_limit_tokens: int | None = None

    def shortest_prefill_chunk_limit(
        self, chunked_req: Req, waiting_queue: list[Req], budget: int, page_size: int
    ) -> int | None:
        return self.in_progress_limit_tokens


def _total_tokens(req: Req) -> int:
    return len(req.origin_input_ids) + len(req.output_ids)


def _computed(req: Req) -> Computed:
    """The chunk of a request in a batch that is about to run."""
    remaining_tokens = _total_tokens(req) - req.prefix_len
    return Computed(req.rid, req.extend_len, req.prefix_len, remaining_tokens)
