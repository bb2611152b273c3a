"""SGLang's scheduler with Niyama's decisions: which seam of SGLang calls which part of Niyama.

The seams are SGLang 0.5.23's; `tests/contract/test_sglang_seams.py` fails when one disappears.

SGLang's `waiting_queue` has every waiting request, in order of arrival, so that abort, pause,
flush, idle checks, timeouts and metrics are SGLang's own. The policy keeps their order; while a
batch is made, SGLang sees only the requests that the plan admits.
"""

import copy
import os
import secrets
import time
from dataclasses import replace
from typing import Any

from sglang.srt.managers.io_struct import GetInternalStateReq
from sglang.srt.managers.schedule_batch import BaseFinishReason, Req, ScheduleBatch
from sglang.srt.managers.scheduler import NextBatchPlan, Scheduler
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from workers.latency.learner import FIRST_GUESS, LatencyLearner
from workers.latency.model import LatencyModel
from workers.policy.policy import NiyamaPolicy
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.messages import (
    ADDRESS_VARIABLE,
    SCHEDULER_INFO_KEY,
    DecisionSender,
    as_aborted,
)
from workers.runtime.scheduler import accounts, grammar_cache
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.latency_file import LatencyFile
from workers.runtime.scheduler.latency_subject import latency_subject
from workers.runtime.scheduler.parts import Parts, assemble
from workers.runtime.scheduler.ranks import (
    SharedClock,
    from_first_rank,
    is_first_rank,
    same_on_every_rank,
)
from workers.runtime.scheduler.sglang_calls import PlannedAdder, PlannedPolicy, SglangCalls
from workers.runtime.scheduler.supported_modes import check_supported, check_timing
from workers.runtime.settings import SchedulingSettings
from workers.runtime.sglang_arguments import resolved


class _OutputStreamer(SchedulerOutputStreamer):  # type: ignore[misc]
    """SGLang's own, which also says where the time of each request that ends has gone."""

    def stream_output(
        self, reqs: list[Req], return_logprob: bool, skip_req: Req | None = None
    ) -> None:
        for req in reqs:
            ends = req is not skip_req and req.finished() and not req.finished_output
            if ends and hasattr(req, "niyama"):  # some that SGLang refuses were never queued
                req.finished_reason = _telling(req)
        super().stream_output(reqs, return_logprob, skip_req)


def _telling(req: Req) -> BaseFinishReason:
    """The reason why a request ends now, of the same class, which tells where its time went."""
    reason = copy.copy(req.finished_reason)
    told = accounts.with_account_of(req, reason.to_json(), time.monotonic())
    reason.to_json = lambda: told
    return reason


class NiyamaScheduler(Scheduler):  # type: ignore[misc]
    """Orders, parks and sizes prefills by the policy; everything else is SGLang's own."""

    def init_schedule_policy(self) -> None:
        """SGLang calls this in its constructor, before there is any request."""
        check_supported(self, announce=is_first_rank())
        super().init_schedule_policy()
        self.policy = PlannedPolicy(self.tree_cache, self.enable_hierarchical_cache)
        self.niyama = _parts_of(self)

    def get_prefill_adder_class(self) -> type[PlannedAdder]:
        return PlannedAdder

    def init_grammar_manager(self) -> None:
        super().init_grammar_manager()
        grammar_cache.bound(self.grammar_manager.grammar_backend)

    def get_init_info(self) -> dict[str, Any]:
        info = {"latency_is_known": self.niyama.latency_is_known}
        return {**super().get_init_info(), SCHEDULER_INFO_KEY: info}

    def get_output_streamer_class(self) -> type[SchedulerOutputStreamer]:
        has_worker = ADDRESS_VARIABLE in os.environ
        return _OutputStreamer if has_worker else super().get_output_streamer_class()

    def get_internal_state(self, recv_req: GetInternalStateReq) -> Any:
        """SGLang's `/server_info` shows what the policy knows, too."""
        output = super().get_internal_state(recv_req)
        policy = self.niyama.driver.policy
        output.internal_state[SCHEDULER_INFO_KEY] = {
            "decodes": policy.decodes,
            "backlog_s": policy.backlog_s(),
            "tokens_per_step": policy.tokens_per_step,
        }
        return output

    # ---- requests come and go

    def process_input_requests(self, recv_reqs: list[Any]) -> None:
        self.niyama.heartbeat.turn()  # SGLang's loop comes here in every turn, also when idle
        if recv_reqs:
            self.niyama.clock.tick()
        super().process_input_requests(recv_reqs)

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        self.niyama.requests.entering(req)
        super()._add_request_to_queue(req, is_retracted)
        if self.waiting_queue and self.waiting_queue[-1] is req:  # else SGLang refused it
            self.niyama.requests.queued(req)

    def _abort_on_queued_limit(self, recv_req: Req) -> bool:
        # A parked request was admitted once; a full queue must not turn it away now.
        return not recv_req.niyama.parked and super()._abort_on_queued_limit(recv_req)

    def send_abort_output(self, abort_req: Any, req: Req) -> None:
        """SGLang reports every request here that it drops outside a batch."""
        if hasattr(req, "niyama") and ADDRESS_VARIABLE in os.environ:
            reason = abort_req.finished_reason or as_aborted(abort_req.abort_message)
            abort_req.finished_reason = accounts.with_account_of(req, reason, time.monotonic())
        super().send_abort_output(abort_req, req)
        self.niyama.requests.dropped(req)

    def is_fully_idle(self, for_health_check: bool = False, ignore_waiting: bool = False) -> bool:
        parking = self.niyama.parking
        return not parking.is_busy and super().is_fully_idle(for_health_check, ignore_waiting)

    # ---- one iteration

    def get_new_batch_prefill(self, running_batch: ScheduleBatch) -> NextBatchPlan:
        return self.niyama.batches.next(running_batch, super().get_new_batch_prefill)

    def run_batch(self, batch: ScheduleBatch, *args: Any, **kwargs: Any) -> Any:
        self.niyama.watcher.launching(batch, after_idle=self._sched_idled)
        result = super().run_batch(batch, *args, **kwargs)
        self.niyama.watcher.launched()
        return result

    def process_batch_result(self, batch: ScheduleBatch, result: Any) -> None:
        self.niyama.watcher.processing(batch)
        super().process_batch_result(batch, result)
        self.niyama.watcher.processed(batch)


def _parts_of(scheduler: NiyamaScheduler) -> Parts:
    """Niyama's parts, from what earlier runs have measured and from this process's environment."""
    file = LatencyFile(latency_subject(scheduler), os.environ)
    learner = LatencyLearner(from_first_rank(file.load))
    known = learner.model()
    has_worker = ADDRESS_VARIABLE in os.environ
    settings = _policy_settings(scheduler.chunked_prefill_size, has_worker=has_worker)
    verified_tokens = _verified_tokens(scheduler.server_args)
    policy = NiyamaPolicy(
        known or FIRST_GUESS,
        settings,
        verified_tokens=verified_tokens,
        salt=from_first_rank(lambda: secrets.token_bytes(16)),
    )
    driver = PolicyDriver(policy, learner, checked=same_on_every_rank)

    def keep(model: LatencyModel) -> None:
        if is_first_rank():
            file.save(learner.samples, model, scheduler.max_total_num_tokens)

    return assemble(
        SglangCalls(scheduler),
        driver,
        SharedClock(),
        DecisionSender.from_environment(is_first_rank()),
        keep,
        latency_is_known=known is not None,
        paces=settings.token_timing is TokenTiming.PACED,
        has_worker=has_worker,
    )


def _verified_tokens(server_args: Any) -> int:
    """What a decode computes in an iteration: with drafts, as many tokens as are verified."""
    arguments = resolved(server_args)
    tokens = arguments["speculative_num_draft_tokens"].value
    speculates = arguments["speculative_algorithm"].value is not None
    return tokens if speculates and isinstance(tokens, int) else 1


def _policy_settings(chunk_tokens: int, *, has_worker: bool) -> Settings:
    wanted = SchedulingSettings()
    check_timing(wanted.token_timing, has_worker=has_worker)
    return replace(
        wanted.policy_settings(),
        min_chunk_tokens=min(wanted.min_chunk_tokens, max(1, chunk_tokens // 4)),
        max_chunk_tokens=chunk_tokens,
    )
