"""From the policy's plan to SGLang's batch, once per iteration."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from workers.latency.model import LatencyModel
from workers.policy.decision import DecisionKind
from workers.policy.plan import Chunk, IterationPlan
from workers.runtime.messages import as_finish_reason
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.handover import Handover, Planned, hand_over
from workers.runtime.scheduler.iteration_clock import IterationClock
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.prefix_matches import PrefixMatches
from workers.runtime.scheduler.reporter import DecisionReporter
from workers.runtime.scheduler.seams import (
    Batch,
    EngineCalls,
    EngineRequest,
    NextBatch,
)
from workers.runtime.scheduler.waiting import WaitingRequests

_MAX_STAND_INS = 64
"""Requests beyond the plan that SGLang may take where it skips planned ones."""

Build = Callable[[Batch], NextBatch]
"""SGLang's own `get_new_batch_prefill`: the next batch, given the running one."""


class BatchMaker:
    def __init__(
        self,
        engine: EngineCalls,
        waiting: WaitingRequests,
        parking: Parking,
        driver: PolicyDriver,
        clock: IterationClock,
        prefixes: PrefixMatches,
        reporter: DecisionReporter,
        keep_model: Callable[[LatencyModel], None],
    ) -> None:
        """`keep_model` is called with each new latency model."""
        self._scheduler = engine.scheduler
        self._engine = engine
        self._waiting = waiting
        self._parking = parking
        self._driver = driver
        self._clock = clock
        self._prefixes = prefixes
        self._reporter = reporter
        self._keep_model = keep_model

    def next(self, running_batch: Batch, build: Build) -> NextBatch:
        """The batch that SGLang builds from a new plan.

        SGLang's own pass runs in every call, also when there is nothing for it to admit: it
        negotiates with other ranks, which would wait for it, and takes up compiled grammars.
        """
        if not self._has_work(running_batch):
            return self._built(Handover(), running_batch, build)
        self._synchronize()
        plan = self._new_plan(running_batch)
        self._drop_expired(plan)
        self._parking.reclaim_kv(plan.reclaim_kv)
        for request_id in plan.reclaim_kv:
            if request_id in self._waiting:
                self._prefixes.again(request_id)
        self._reporter.planned(plan, self._waiting, self._clock.now_s)
        with self._mixing(may_mix=not plan.decodes_wait):
            batch = self._built_as_planned(plan, running_batch, build)
        self._reporter.flush()
        return batch

    def _built_as_planned(
        self, plan: IterationPlan, running_batch: Batch, build: Build
    ) -> NextBatch:
        handover = self._hand_over(plan, running_batch)
        if handover.park:
            return self._built_parking(handover, plan, running_batch, build)
        if self._scheduler.chunked_req is None or handover.in_progress_tokens:
            return self._built(handover, running_batch, build)
        return self._built_pausing(running_batch, build)

    @contextmanager
    def _mixing(self, *, may_mix: bool) -> Iterator[None]:
        """SGLang computes decodes beside the prompts of this batch only if it may."""
        scheduler, mixes = self._scheduler, self._scheduler.is_mixed_chunk
        scheduler.is_mixed_chunk = mixes and may_mix
        try:
            yield
        finally:
            scheduler.is_mixed_chunk = mixes

    def _has_work(self, running_batch: Batch) -> bool:
        scheduler = self._scheduler
        waiting = scheduler.waiting_queue or scheduler.chunked_req or running_batch.reqs
        return bool(waiting) or not self._driver.idle

    def _synchronize(self) -> None:
        """Take time and measurements from the first rank, so that all ranks plan alike."""
        model = self._driver.measured(self._clock.synchronize())
        if model is not None:
            self._keep_model(model)

    def _new_plan(self, running_batch: Batch) -> IterationPlan:
        self._prefixes.planning(self._clock.now_s)
        start_s = self._clock.start_s(in_flight=self._engine.in_flight())
        free_kv_tokens = self._engine.free_kv_tokens() - self._parking.kept_tokens
        most_prompts = self._engine.most_prompts(running_batch)
        plan = self._driver.plan(self._clock.now_s, start_s, free_kv_tokens, most_prompts)
        self._clock.planned(start_s, plan.predicted_s)
        return plan

    def _drop_expired(self, plan: IterationPlan) -> None:
        """What the policy gave up leaves as SGLang's own aborted requests do, with the reason."""
        expired = [
            (req, decision)
            for decision in plan.decisions
            if decision.kind is DecisionKind.EXPIRED
            and (req := self._waiting.get(decision.request_id)) is not None
        ]
        if expired:
            self._waiting.take({req.rid for req, _ in expired})
        for req, decision in expired:
            self._engine.drop(req, as_finish_reason(replace(decision, at_s=self._clock.now_s)))

    # ---- what SGLang is handed

    def _hand_over(self, plan: IterationPlan, running_batch: Batch) -> Handover:
        self._parking.planned()
        scheduler, in_progress = self._scheduler, self._scheduler.chunked_req
        planned = [chunk for each in plan.chunks if (chunk := self._planned(each)) is not None]
        handover = hand_over(
            planned,
            in_progress.rid if in_progress is not None else None,
            can_park=in_progress is not None and self._parking.can_park(in_progress, running_batch),
            room_tokens=scheduler.chunked_prefill_size - self._joining_decodes(running_batch),
            page_tokens=scheduler.truncation_align_size or scheduler.page_size,
        )
        if in_progress is None and handover.order and self._engine.skips():
            return replace(handover, order=handover.order + self._stand_ins(handover.order))
        return handover

    def _stand_ins(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """Who else may have the plan's tokens: a plan that SGLang skips would come back forever."""
        ids = self._driver.policy.next_in_line(_MAX_STAND_INS)
        return tuple(each for each in ids if each in self._waiting and each not in order)

    def _planned(self, chunk: Chunk) -> Planned | None:
        """The chunk with the engine's current count; None when SGLang does not have it any more."""
        in_progress = self._scheduler.chunked_req
        if in_progress is not None and in_progress.rid == chunk.request_id:
            remaining = total_tokens(in_progress) - in_progress.prefix_len
        elif (req := self._waiting.get(chunk.request_id)) is not None:
            remaining = total_tokens(req) - self._engine.cached_tokens(req)
        else:
            self._driver.aborted(chunk.request_id)
            return None
        return Planned(chunk.request_id, chunk.tokens, remaining)

    def _joining_decodes(self, running_batch: Batch) -> int:
        """Decodes that join a batch of prompts; SGLang takes their tokens from its chunk size."""
        return len(running_batch.reqs) if self._scheduler.is_mixed_chunk else 0

    # ---- what SGLang makes of it

    def _built(self, handover: Handover, running_batch: Batch, build: Build) -> NextBatch:
        decodes = self._joining_decodes(running_batch)
        if handover.order:
            # It says that SGLang refused a request, and holds until a decode ends. This may be
            # another request, or one for which KV has been reclaimed.
            running_batch.batch_is_full = False
        with self._waiting.narrowed_to(handover, decodes):
            batch = build(running_batch)
        for request_id in handover.order:
            if request_id not in self._waiting:
                self._parking.forget(request_id)
        if batch.batch_to_run is not None and batch.batch_to_run.prefill_stats is not None:
            # SGLang counted only what it was handed.
            batch.batch_to_run.prefill_stats.num_pending_tokens = self._pending_tokens()
        return batch

    def _pending_tokens(self) -> int:
        """What SGLang reports as pending, which goes through the queue each time."""
        in_progress = self._scheduler.chunked_req
        if in_progress is None:
            return self._waiting.tokens()
        left = in_progress.seqlen - in_progress.prefix_len - in_progress.extend_len
        return self._waiting.tokens() + left

    def _built_pausing(self, running_batch: Batch, build: Build) -> NextBatch:
        """SGLang would continue the prompt in progress: it has none to see, and nothing else."""
        paused, self._scheduler.chunked_req = self._scheduler.chunked_req, None
        try:
            return self._built(Handover(), running_batch, build)
        finally:
            self._scheduler.chunked_req = paused

    def _built_parking(
        self, handover: Handover, plan: IterationPlan, running_batch: Batch, build: Build
    ) -> NextBatch:
        parked = self._parking.park()
        batch = self._built(handover, running_batch, build)
        if batch.batch_to_run is None:
            # There was no memory for any other prompt: the parked one continues after all.
            self._parking.undo()
            tokens = handover.prefill_tokens
            continuing = Handover(prefill_tokens=tokens, in_progress_tokens=tokens)
            return self._built(continuing, batch.running_batch, build)
        parked.niyama.account.parked(self._clock.own_s())
        self._reporter.parked(parked, plan, self._clock.now_s)
        return batch


def total_tokens(req: EngineRequest) -> int:
    """Tokens that a request's prefill has to cover: its prompt, and what it generated before."""
    return len(req.origin_input_ids) + len(req.output_ids)
