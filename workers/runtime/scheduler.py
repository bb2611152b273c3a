"""SGLang's scheduler with Niyama's decisions: snapshot, pure plan, apply.

The seams are SGLang 0.5.23's; `tests/contract/test_sglang_seams.py` fails when one disappears.

Waiting requests are kept in deadline order by inserting each where it belongs, so that an
iteration looks at the head of the queue only, however many wait.

Parking gives a prefill in progress back to the waiting queue. What it has computed stays in the
radix cache, where its next admission finds it, unlocked: short of memory, SGLang takes it back
like any cached prefix. A parked request is a waiting request to every other part of SGLang, so
abort, pause, flush, idle checks and metrics need no special case.
"""

import bisect
import time
from itertools import islice
from typing import Any

from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.distributed.communication_op import attn_cp_tp_broadcast_pyobj
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.managers.scheduler import NextBatchPlan, Scheduler
from sglang.srt.mem_cache.common import match_kv_cache, release_kv_cache
from sglang.srt.runtime_context import get_parallel

from workers.engine import Decision, DecisionKind, Prediction
from workers.niyama.deadlines import Deadlines
from workers.niyama.edf import edf_key, plan
from workers.niyama.iteration import IterationPlan, Prefill, Snapshot
from workers.runtime import qos
from workers.runtime.decisions import DecisionSender

_HEAD_REQUESTS = 64
"""Waiting requests that a plan considers: more prompts than one iteration ever takes."""


SCHEDULER_INFO_KEY = "niyama"
"""In what a scheduler process reports when it is ready: that this scheduler is the one in it."""


class NiyamaScheduler(Scheduler):  # type: ignore[misc]
    """Orders, parks and sizes prefills by deadline; everything else is SGLang's own."""

    waiting_queue: list[Req]
    chunked_req: Req | None
    """The one prefill in progress that SGLang tracks."""
    chunked_prefill_size: int | None
    """The most tokens of one iteration; None where prefills are not chunked."""

    def init_schedule_policy(self) -> None:
        if self.enable_priority_scheduling:
            raise ValueError(
                "Niyama orders requests by deadline: start without --enable-priority-scheduling"
            )
        super().init_schedule_policy()
        self.policy = _PlannedPolicy(self.tree_cache, self.enable_hierarchical_cache)
        self._epoch_s = time.time() - time.monotonic()
        self._received_s = self._shared_clock_s()
        self._parked: list[Req] = []
        parallel = get_parallel()
        reports = parallel.attn_tp_rank == 0 and parallel.attn_cp_rank == 0
        self._decisions = DecisionSender.from_environment() if reports else DecisionSender(None)

    def get_init_info(self) -> dict[str, Any]:
        return {**super().get_init_info(), SCHEDULER_INFO_KEY: True}

    # ---- the waiting queue

    def process_input_requests(self, recv_reqs: list[Any]) -> None:
        if recv_reqs:
            self._received_s = self._shared_clock_s()
        super().process_input_requests(recv_reqs)

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        if not hasattr(req, "niyama"):
            self._read_qos(req)
        super()._add_request_to_queue(req, is_retracted)
        if self.waiting_queue and self.waiting_queue[-1] is req:
            bisect.insort(self.waiting_queue, self.waiting_queue.pop(), key=_queue_key)

    def _read_qos(self, req: Req) -> None:
        """Note the request's deadlines; one with unreadable QoS is answered with the reason."""
        try:
            deadlines = qos.deadlines(req.sampling_params.custom_params, self._received_s)
        except ValueError as error:
            deadlines = qos.deadlines(None, self._received_s)
            req.set_finish_with_abort(str(error))
        req.niyama = _Progress(deadlines)

    def _abort_on_queued_limit(self, recv_req: Req) -> bool:
        # A parked request was admitted once; a full queue must not turn it away now.
        return not recv_req.niyama.parked and super()._abort_on_queued_limit(recv_req)

    # ---- one iteration

    def get_new_batch_prefill(self, running_batch: ScheduleBatch) -> NextBatchPlan:
        iteration_tokens = self.chunked_prefill_size
        if iteration_tokens is None or not (self.chunked_req or self.waiting_queue):
            return self._reported(super().get_new_batch_prefill(running_batch))
        snapshot = self._snapshot(running_batch, iteration_tokens)
        iteration = plan(snapshot, self._shared_clock_s())
        self._apply_order(iteration)
        self.chunked_prefill_size = iteration.prefill_budget_tokens + snapshot.running_decodes
        self.policy.in_progress_limit_tokens = iteration.in_progress_limit_tokens
        try:
            return self._reported(self._prefill_batch(running_batch, iteration))
        finally:
            self.chunked_prefill_size = iteration_tokens

    def _prefill_batch(
        self, running_batch: ScheduleBatch, iteration: IterationPlan
    ) -> NextBatchPlan:
        if iteration.park is None:
            return super().get_new_batch_prefill(running_batch)
        making_way, self.chunked_req = self.chunked_req, None
        batch = super().get_new_batch_prefill(running_batch)
        if batch.batch_to_run is None:
            # There was no memory for anybody else: it goes on after all.
            self.chunked_req = making_way
            return super().get_new_batch_prefill(batch.running_batch)
        self._parked.append(making_way)
        self._note(making_way, DecisionKind.PARKED, "its prefill made way for closer deadlines")
        return batch

    def process_batch_result(self, batch: ScheduleBatch, result: Any) -> None:
        super().process_batch_result(batch, result)
        if self._parked:
            self._requeue_parked()

    def _requeue_parked(self) -> None:
        """Queue the parked requests whose last chunk has run; overlapped, that is a step later."""
        ready = [req for req in self._parked if req.inflight_middle_chunks == 0]
        self._parked = [req for req in self._parked if req.inflight_middle_chunks > 0]
        for req in ready:
            # SGLang has put every finished chunk into the radix cache already.
            release_kv_cache(req, self.tree_cache, checkpoint=False)
            req.reset_for_retract()
            req.niyama.parked = True
            self._add_request_to_queue(req, is_retracted=True)

    def is_fully_idle(self, for_health_check: bool = False, ignore_waiting: bool = False) -> bool:
        return not self._parked and super().is_fully_idle(for_health_check, ignore_waiting)

    # ---- what the plan is made from, and made into

    def _snapshot(self, running_batch: ScheduleBatch, iteration_tokens: int) -> Snapshot:
        head = tuple(islice(self.waiting_queue, _HEAD_REQUESTS))
        can_park = self.chunked_req is not None and self._can_park(self.chunked_req, running_batch)
        if can_park:
            self._match_prefixes(head, self.chunked_req)
        return Snapshot(
            waiting=tuple(_waiting_prefill(req) for req in head),
            in_progress=self.chunked_req
            and _prefill(self.chunked_req, self.chunked_req.prefix_len),
            can_park=can_park,
            running_decodes=len(running_batch.reqs) if self.is_mixed_chunk else 0,
            iteration_tokens=iteration_tokens,
            page_tokens=self.truncation_align_size or self.page_size,
        )

    def _can_park(self, req: Req, running_batch: ScheduleBatch) -> bool:
        """Whether `req` could be taken up again later, and somebody else be admitted now."""
        is_full = running_batch.batch_is_full and not running_batch.is_empty()
        return (
            not is_full
            and self._loop_supports_parking()
            and self.tree_cache.supports_prefix_sharing()
            and not req.skip_radix_cache_insert
            and req.session is None
            and req.input_embeds is None
            and req.positional_embed_overrides is None
            # Log probabilities of the prompt would have to be computed again.
            and not (req.return_logprob and 0 <= req.logprob_start_len < len(req.origin_input_ids))
        )

    def _loop_supports_parking(self) -> bool:
        """Parking is worked out for SGLang's normal and overlapped loops."""
        return (
            self.disaggregation_mode == DisaggregationMode.NULL
            and get_parallel().pp_size == 1
            and not self.enable_pdmux
            and not self.enable_overlap_mlx
            and self.dllm_config is None
            # It negotiates with other ranks once per pass; parking may take two.
            and self.prefill_delayer is None
        )

    def _match_prefixes(self, head: tuple[Req, ...], in_progress: Req) -> None:
        """Find what the radix cache has of the prompts that would go before `in_progress`."""
        limit = _queue_key(in_progress)
        for req in head:
            if _queue_key(req) >= limit:
                return
            match_kv_cache(req, self.tree_cache)

    def _apply_order(self, iteration: IterationPlan) -> None:
        head = self.waiting_queue[: len(iteration.order)]
        if tuple(req.rid for req in head) != iteration.order:
            by_id = {req.rid: req for req in head}
            self.waiting_queue[: len(head)] = [by_id[rid] for rid in iteration.order]

    def _shared_clock_s(self) -> float:
        """UTC epoch seconds that never step back, the same on every rank that must decide alike."""
        now_s = self._epoch_s + time.monotonic()
        return float(attn_cp_tp_broadcast_pyobj([now_s])[0])

    # ---- what is reported

    def _reported(self, batch: NextBatchPlan) -> NextBatchPlan:
        """Note which requests begin or go on with this batch, and send what was noted."""
        if batch.batch_to_run is not None:
            decodes = batch.batch_to_run.decoding_reqs or ()
            prefills = len(batch.batch_to_run.reqs) - len(decodes)
            for req in islice(batch.batch_to_run.reqs, prefills):
                self._note_prefill(req)
        self._decisions.flush()
        return batch

    def _note_prefill(self, req: Req) -> None:
        if not req.niyama.started:
            req.niyama.started = True
            self._note(req, DecisionKind.STARTED)
        elif req.niyama.parked:
            self._note(req, DecisionKind.RESUMED)
        req.niyama.parked = False

    def _note(self, req: Req, kind: DecisionKind, reason: str = "") -> None:
        prediction = Prediction(deadline_s=req.niyama.deadlines.deadline_s)
        at_s = self._epoch_s + time.monotonic()
        self._decisions.add(Decision(req.rid, kind, at_s, reason, prediction))


class _Progress:
    """What Niyama remembers of a request, as `req.niyama`."""

    __slots__ = ("deadlines", "parked", "started")

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.started = False
        self.parked = False


class _PlannedPolicy(SchedulePolicy):  # type: ignore[misc]
    """First come first served leaves the queue in our order; the chunk limit is the plan's."""

    def __init__(self, tree_cache: Any, enable_hierarchical_cache: bool) -> None:
        super().__init__("fcfs", tree_cache, enable_hierarchical_cache, False, False)
        self.in_progress_limit_tokens: int | None = None

    def shortest_prefill_chunk_limit(
        self, chunked_req: Req, waiting_queue: list[Req], budget: int, page_size: int
    ) -> int | None:
        return self.in_progress_limit_tokens


def _queue_key(req: Req) -> tuple[float, str]:
    return edf_key(_waiting_prefill(req))


def _waiting_prefill(req: Req) -> Prefill:
    return _prefill(req, req.num_matched_prefix_tokens)


def _prefill(req: Req, computed_tokens: int) -> Prefill:
    due_s = req.niyama.deadlines.next_token_due_s(len(req.output_ids))
    remaining_tokens = len(req.origin_input_ids) + len(req.output_ids) - computed_tokens
    return Prefill(req.rid, due_s, remaining_tokens)
