"""The parts of SGLang's objects that Niyama reads and writes, as types.

Everything that decides is written against these, so that it runs without SGLang in unit tests
(`tests/support/sglang.py`). The real ones are SGLang 0.5.23's `Scheduler`, `Req`, `ScheduleBatch`
and `NextBatchPlan`; `tests/contract/test_sglang_seams.py` fails when one of the names disappears.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workers.runtime.scheduler.progress import Progress


class SamplingParams(Protocol):
    @property
    def custom_params(self) -> Mapping[str, Any] | None: ...

    @property
    def max_new_tokens(self) -> int | None: ...


class EngineRequest(Protocol):
    """SGLang's `Req`."""

    niyama: Progress
    """Ours. It has none until SGLang first queues it."""
    rid: str
    inflight_middle_chunks: int
    """Launched chunks, other than a prompt's last one, whose results were not processed yet."""
    customized_info: dict[str, list[Any]] | None
    """Goes with its next output as `meta_info`, one entry per token."""

    extra_key: str | None
    cache_salt: str | None
    """The prefix cache takes requests for alike only where both are equal."""

    # What of its features keeps a prompt from being parked, or from sharing a batch with decodes.
    session: object | None
    beam_group: object | None
    input_embeds: object | None
    positional_embed_overrides: object | None
    skip_radix_cache_insert: bool
    return_logprob: bool
    logprob_start_len: int

    @property
    def sampling_params(self) -> SamplingParams: ...

    @property
    def origin_input_ids(self) -> Sequence[int]: ...

    @property
    def output_ids(self) -> Sequence[int]: ...

    @property
    def prefix_len(self) -> int:
        """Tokens computed, or found in the prefix cache, before its chunk in the last batch."""

    @property
    def extend_len(self) -> int:
        """Tokens of its chunk in the last batch."""

    @property
    def seqlen(self) -> int: ...

    def finished(self) -> bool: ...

    def reset_for_retract(self) -> None: ...

    def set_finish_with_abort(self, error_msg: str) -> None: ...


class ForwardMode(Protocol):
    def is_extend(self) -> bool: ...


class PrefillStats(Protocol):
    num_pending_tokens: int


class Batch(Protocol):
    """SGLang's `ScheduleBatch`."""

    batch_is_full: bool

    @property
    def prefill_stats(self) -> PrefillStats | None: ...

    @property
    def reqs(self) -> Sequence[EngineRequest]: ...

    @property
    def decoding_reqs(self) -> Sequence[EngineRequest] | None:
        """The decodes that an extending batch takes along; the last of `reqs`."""

    @property
    def forward_mode(self) -> ForwardMode: ...

    @property
    def global_num_tokens(self) -> Sequence[int] | None:
        """Tokens of each rank's batch in this step of data parallel attention, as far as known."""

    @property
    def is_extend_in_batch(self) -> bool:
        """Data parallel attention: some rank computes prompts in this step."""

    def is_empty(self) -> bool: ...


class NextBatch(Protocol):
    """SGLang's `NextBatchPlan`."""

    @property
    def batch_to_run(self) -> Batch | None:
        """None: the running batch decodes."""

    @property
    def running_batch(self) -> Batch: ...


class ChunkLimit(Protocol):
    """SGLang's `SchedulePolicy`, as `PlannedPolicy` extends it."""

    in_progress_limit_tokens: int | None
    """The most that the prompt in progress may compute in the batch that is being made."""


class EngineScheduler(Protocol):
    """SGLang's `Scheduler`."""

    waiting_queue: list[EngineRequest]
    chunked_req: EngineRequest | None
    """The one prompt in progress that SGLang tracks."""
    chunked_prefill_size: int
    """The most tokens of one iteration."""
    is_mixed_chunk: bool
    page_size: int
    truncation_align_size: int | None
    prefill_delayer: object | None
    enable_overlap: bool
    """The result of a batch is processed while the next one runs."""

    @property
    def policy(self) -> ChunkLimit: ...


class EngineCalls(Protocol):
    """What Niyama asks SGLang to do or to find out."""

    @property
    def scheduler(self) -> EngineScheduler: ...

    def free_kv_tokens(self) -> int:
        """KV that is free or could be evicted from the prefix cache."""

    def most_prompts(self, running_batch: Batch) -> int:
        """So many requests may be in a batch of prompts beside those that run."""

    def cached_tokens(self, req: EngineRequest) -> int:
        """Tokens of a waiting request that its admission would find in the prefix cache."""

    def skips(self) -> bool:
        """Whether SGLang may skip a request that it is handed, because it is not ready."""

    def shares_prefixes(self) -> bool:
        """Whether what a request has computed stays in a cache for others, and for itself."""

    def touch(self, req: EngineRequest) -> None:
        """Refresh a waiting request's prefix in the cache's eviction order."""

    def release_kv(self, req: EngineRequest) -> None:
        """Take a request's KV; what the prefix cache has of it stays there, and can be evicted."""

    def requeue(self, req: EngineRequest) -> None:
        """Put a request that was released at the end of the waiting queue."""

    def drop(self, req: EngineRequest, finish_reason: Mapping[str, str | int]) -> None:
        """End a request that was taken from the waiting queue, and answer it with the reason."""

    def was_aborted(self, req: EngineRequest) -> bool:
        """Whether `req` ended in a batch because it was aborted."""

    def runs_in_step(self) -> bool:
        """Whether a forward pass is over when SGLang has launched it."""

    def in_flight(self) -> bool:
        """Whether the iteration before the one that is planned still runs."""

    def total_kv_tokens(self) -> int:
        """All KV that there is."""

    def replica(self) -> int:
        """The data-parallel rank of this scheduler."""

    def send_heartbeat(self) -> None:
        """Send a sign of life the way that generated tokens go."""
