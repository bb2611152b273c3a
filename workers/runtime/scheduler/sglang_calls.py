"""`EngineCalls` in SGLang's own terms."""

from collections.abc import Mapping
from typing import Any

from sglang.srt.managers.io_struct import AbortReq, BatchEmbeddingOutput
from sglang.srt.managers.schedule_batch import FINISH_ABORT
from sglang.srt.managers.schedule_policy import PrefillAdder, SchedulePolicy
from sglang.srt.mem_cache.common import match_kv_cache, release_kv_cache, touch_waiting_prefix
from sglang.srt.runtime_context import get_parallel

from workers.runtime.messages import heartbeat_id
from workers.runtime.scheduler.seams import Batch, EngineRequest


class SglangCalls:
    """The calls of one scheduler, which is SGLang's `Scheduler`."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def free_kv_tokens(self) -> int:
        scheduler = self.scheduler
        allocator = scheduler.token_to_kv_pool_allocator
        return int(allocator.create_prefill_budget(scheduler.tree_cache).remaining_current)

    def most_prompts(self, running_batch: Batch) -> int:
        """The prompt in progress has its place already."""
        scheduler, running = self.scheduler, len(running_batch.reqs)
        places = scheduler.get_num_allocatable_reqs(running, running_batch=running_batch)
        return int(places) + (scheduler.chunked_req is not None)

    def total_kv_tokens(self) -> int:
        return int(self.scheduler.max_total_num_tokens)

    def replica(self) -> int:
        return int(get_parallel().dp_rank or 0)

    def cached_tokens(self, req: Any) -> int:
        if req.session is not None:  # a session brings its own
            return 0
        match_kv_cache(req, self.scheduler.tree_cache)
        return int(req.num_matched_prefix_tokens)

    def skips(self) -> bool:
        """Adapters may have no room yet, and prefixes may still be on their way from storage."""
        scheduler = self.scheduler
        return bool(
            scheduler.enable_lora or scheduler.enable_hicache_storage or scheduler.enable_lmcache
        )

    def shares_prefixes(self) -> bool:
        return bool(self.scheduler.tree_cache.supports_prefix_sharing())

    def touch(self, req: EngineRequest) -> None:
        touch_waiting_prefix(req, self.scheduler.tree_cache)

    def release_kv(self, req: EngineRequest) -> None:
        release_kv_cache(req, self.scheduler.tree_cache, checkpoint=False)

    def requeue(self, req: EngineRequest) -> None:
        self.scheduler._add_request_to_queue(req, is_retracted=True)

    def drop(self, req: Any, finish_reason: Mapping[str, str | int]) -> None:
        """As SGLang's `abort_request` does with a request in the waiting queue."""
        scheduler = self.scheduler
        scheduler._release_aborted_request(req)
        scheduler.beam_coordinator.retire_group(req)
        scheduler.send_abort_output(AbortReq(rid=req.rid, finished_reason=finish_reason), req)
        if req.kv.holds_mamba:
            self.release_kv(req)

    def was_aborted(self, req: Any) -> bool:
        return isinstance(req.finished_reason, FINISH_ABORT)

    def runs_in_step(self) -> bool:
        return bool(self.scheduler.device == "cpu")

    def in_flight(self) -> bool:
        return not self.runs_in_step() and bool(self.scheduler.result_queue)

    def send_heartbeat(self) -> None:
        """As an embedding, which the detokenizer passes on as it is.

        Only the first rank can send; it stops when one of the others does.
        """
        beat = BatchEmbeddingOutput(
            rids=[heartbeat_id(self.replica())],
            http_worker_ipcs=[None],
            finished_reasons=[None],
            embeddings=[[]],
            prompt_tokens=[0],
            cached_tokens=[0],
            placeholder_tokens_idx=None,
            placeholder_tokens_val=None,
        )
        self.scheduler.ipc_channels.send_to_detokenizer.send_output(beat)


class PlannedPolicy(SchedulePolicy):  # type: ignore[misc]
    """First come first served leaves the queue in our order; the chunk limit is the plan's."""

    def __init__(self, tree_cache: Any, enable_hierarchical_cache: bool) -> None:
        super().__init__("fcfs", tree_cache, enable_hierarchical_cache, False, False)
        self.in_progress_limit_tokens: int | None = None

    def shortest_prefill_chunk_limit(
        self, chunked_req: Any, waiting_queue: list[Any], budget: int, page_size: int
    ) -> int | None:
        return self.in_progress_limit_tokens


class PlannedAdder(PrefillAdder):  # type: ignore[misc]
    """Admits what fits now: the plan keeps memory for answers, by how long they are expected to be.

    SGLang by itself keeps it once more, by how long they may be, and refuses what the plan admits.
    """

    def _get_running_request_total_token_offset(self, req: Any) -> int:
        return 0

    def _check_prefill_budget(self, req: Any, *, total_tokens: int, **others: Any) -> Any:
        prompt_tokens = total_tokens - self._swa_new_tokens(req)
        return super()._check_prefill_budget(req, total_tokens=prompt_tokens, **others)

    def _update_prefill_budget(
        self, prefix_len: int, extend_input_len: int, max_new_tokens: int, *args: Any, **others: Any
    ) -> None:
        super()._update_prefill_budget(
            prefix_len, extend_input_len, max_new_tokens, *args, **others
        )
        self.memory_budget.total_offset -= max_new_tokens
