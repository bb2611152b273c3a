"""What SGLang's scheduler does by itself, and what Niyama's parts ask of it."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.support.sglang.batches import FakeBatch, FakeForwardMode, FakeNextBatch, FakePrefillStats
from tests.support.sglang.requests import FakeRequest, fake
from tests.support.sglang.surroundings import FakeClock
from workers.runtime.messages import as_aborted, prefill_in, times_in
from workers.runtime.scheduler import accounts
from workers.runtime.scheduler.parts import Parts
from workers.runtime.scheduler.seams import Batch, EngineRequest


@dataclass
class FakePolicy:
    in_progress_limit_tokens: int | None = None


class FakeScheduler:
    """Its queue, its one prompt in progress, its batches and results; a prefix cache that keeps the
    beginning of each request."""

    niyama: Parts

    def __init__(self, *, chunk_tokens: int, kv_tokens: int, overlap: bool, mixes: bool) -> None:
        self.waiting_queue: list[EngineRequest] = []
        self.chunked_req: EngineRequest | None = None
        self.chunked_prefill_size = chunk_tokens
        self.policy = FakePolicy()
        self.is_mixed_chunk = mixes
        self.page_size = 1
        self.truncation_align_size: int | None = None
        self.prefill_delayer: object | None = None
        self.enable_overlap = overlap

        self.max_running_requests = 10_000
        self.clock = FakeClock()
        self.kv_tokens = kv_tokens
        self.cached: dict[str, int] = {}
        """Tokens of each request that the prefix cache has, and of what requests are about."""
        self.touched: list[str] = []
        self.dropped: dict[str, Mapping[str, str | int] | None] = {}
        """What ended outside a batch, with the reason that was given."""
        self.passes = 0
        """How often SGLang made a batch, or found that there is none to make."""
        self.leaves_decodes_out = False
        """Decodes join no batch of prompts, for reasons that only SGLang knows."""
        self.not_ready: set[str] = set()
        """Requests that SGLang skips: their adapter or their prefix is not loaded yet."""
        self.building: Callable[[], None] = lambda: None
        """Called while a batch is being made."""
        self.running = FakeBatch([], FakeForwardMode(extends=False))
        self.heartbeats = 0
        self.drafts: list[int] = []
        """Of how many tokens the drafts are that decodes have accepted, step by step; then none."""
        self._unprocessed: list[FakeBatch] = []
        self._aborting: FakeRequest | None = None

    # ---- what Niyama's parts call

    @property
    def scheduler(self) -> Self:
        return self

    def total_kv_tokens(self) -> int:
        return self.kv_tokens

    def free_kv_tokens(self) -> int:
        held = {id(req): req for req in self._in_batches() if not req.ended}
        if self.chunked_req is not None:
            held[id(self.chunked_req)] = fake(self.chunked_req)
        return self.kv_tokens - sum(
            max(req.prefix_len + req.extend_len, 0) for req in held.values()
        )

    def most_prompts(self, running_batch: Batch) -> int:
        return self.max_running_requests - len(running_batch.reqs)

    def cached_tokens(self, req: EngineRequest) -> int:
        cached = max(self.cached.get(key, 0) for key in (req.rid, req.extra_key or ""))
        return min(cached, fake(req).seqlen - 1)

    def shares_prefixes(self) -> bool:
        return True

    def touch(self, req: EngineRequest) -> None:
        self.touched.append(req.rid)

    def release_kv(self, req: EngineRequest) -> None:
        assert req.inflight_middle_chunks == 0, "its last chunk still runs"

    def requeue(self, req: EngineRequest) -> None:
        self._add_to_queue(fake(req))

    def drop(self, req: EngineRequest, finish_reason: Mapping[str, str | int]) -> None:
        queue, place = self.waiting_queue, req.niyama.place
        at = bisect_left(queue, place, key=lambda each: each.niyama.place)
        assert at == len(queue) or queue[at] is not req, "it still waits"
        self._send_abort_output(req, finish_reason)

    def was_aborted(self, req: EngineRequest) -> bool:
        return req.finished() and fake(req).abort_reason is not None

    def skips(self) -> bool:
        return bool(self.not_ready)

    def runs_in_step(self) -> bool:
        return False

    def in_flight(self) -> bool:
        return bool(self._unprocessed)

    def replica(self) -> int:
        return 0

    def send_heartbeat(self) -> None:
        self.heartbeats += 1

    # ---- what SGLang does

    def _add_to_queue(self, req: FakeRequest) -> None:
        self.niyama.requests.entering(req)
        self.waiting_queue.append(req)
        self.niyama.requests.queued(req)

    def _send_abort_output(
        self, req: EngineRequest, reason: Mapping[str, str | int] | None
    ) -> None:
        self.dropped[req.rid] = reason
        self._tell(fake(req), reason or as_aborted(None))
        self.niyama.requests.dropped(req)

    def _tell(self, req: FakeRequest, reason: Mapping[str, Any]) -> None:
        """As what SGLang hands on, the finish reason with what is in it."""
        told = {"finish_reason": accounts.with_account_of(req, reason, self.clock.own_s())}
        req.times, req.prefill = times_in(told), prefill_in(told)

    def _abort_chunked(self) -> None:
        if (req := self._aborting) is not None:
            self._aborting = self.chunked_req = None
            req.ended = True
            self._send_abort_output(req, None)

    def _next_batch(self) -> FakeBatch | None:
        prefill = self.niyama.batches.next(self.running, self._build).batch_to_run
        if isinstance(prefill, FakeBatch):
            return prefill
        if self.running.is_empty():
            return None
        return FakeBatch(list(self.running.reqs), FakeForwardMode(extends=False))

    def _build(self, running_batch: Batch) -> FakeNextBatch:
        """As `get_new_batch_prefill`: the prompt in progress first, then the queue in order."""
        self.passes += 1
        self.building()
        running_batch.batch_is_full &= not running_batch.is_empty()
        budget = self.chunked_prefill_size
        budget -= len(running_batch.reqs) if self.is_mixed_chunk else 0
        admitted: list[FakeRequest] = []
        if self.chunked_req is not None:
            req = fake(self.chunked_req)
            limit = self.policy.in_progress_limit_tokens or budget
            req.extend_len = min(limit, budget, req.seqlen - req.prefix_len)
            budget -= req.extend_len
            admitted.append(req)
            if req.prefix_len + req.extend_len == req.seqlen:
                self.chunked_req = None
        for waiting in self.waiting_queue:
            req = fake(waiting)
            if req.rid in self.not_ready:
                continue
            if budget <= 0 or self._refuses(req, admitted, running_batch):
                break
            req.prefix_len = self.cached_tokens(req)
            if self.chunked_req is not None and req.seqlen - req.prefix_len > budget:
                break  # only one may stay unfinished
            req.extend_len = min(budget, req.seqlen - req.prefix_len)
            budget -= req.extend_len
            admitted.append(req)
            if req.prefix_len + req.extend_len < req.seqlen:
                self.chunked_req = req
        if not admitted:
            return FakeNextBatch(None, running_batch)
        self.waiting_queue = [req for req in self.waiting_queue if req not in admitted]
        if self.chunked_req is not None:
            self.chunked_req.inflight_middle_chunks += 1
        decodes = list(self.running.reqs) if self._mixes(admitted) else []
        batch = FakeBatch(
            admitted + decodes, FakeForwardMode(extends=True), decodes, FakePrefillStats()
        )
        return FakeNextBatch(batch, running_batch)

    def _refuses(self, req: FakeRequest, admitted: list[FakeRequest], running_batch: Batch) -> bool:
        """For lack of memory or places; then all others, too, until a running request has ended."""
        places = self.max_running_requests - len(running_batch.reqs) - len(admitted)
        if req.seqlen > self.free_kv_tokens() or places <= 0:
            running_batch.batch_is_full = bool(admitted) or not running_batch.is_empty()
            return True
        return running_batch.batch_is_full

    def _mixes(self, admitted: list[FakeRequest]) -> bool:
        """Whether SGLang lets the running decodes join a batch of these prompts."""
        return (
            self.is_mixed_chunk
            and not self.leaves_decodes_out
            and not any(req.return_logprob for req in [*admitted, *self.running.reqs])
            and all(req.input_embeds is None for req in admitted)
            and all(req.beam_group is None for req in self.running.reqs)
        )

    def _process(self, batch: FakeBatch) -> None:
        self.niyama.watcher.processing(batch)
        waiting = {id(req) for req in self.waiting_queue}
        for req in batch.reqs:
            if req.inflight_middle_chunks > 0:
                req.inflight_middle_chunks -= 1
            elif not req.ended and id(req) not in waiting:
                self._generate(req, drafted=not batch.forward_mode.is_extend())
        self.niyama.watcher.processed(batch)

    def _generate(self, req: FakeRequest, *, drafted: bool) -> None:
        self._stash(req)
        accepted = self.drafts.pop(0) if self.drafts and drafted else 0
        req.output_ids.extend([0] * (1 + accepted))
        req.sent_info.append(req.customized_info)
        req.customized_info = None
        limit = req.sampling_params.max_new_tokens or 0
        req.ended = req.abort_reason is not None or len(req.output_ids) >= limit
        if req.ended:
            self._tell(req, {"type": "length", "length": len(req.output_ids)})
        if req in self.running.reqs and req.ended:
            self.running.reqs.remove(req)
            self.running.batch_is_full = False
        elif req not in self.running.reqs and not req.ended:
            self.running.reqs.append(req)

    def _stash(self, req: FakeRequest) -> None:
        req.stash()
        self.cached[req.rid] = req.prefix_len
        if req.extra_key is not None and req.extra_key != req.rid:
            self.cached[req.extra_key] = max(self.cached.get(req.extra_key, 0), req.prefix_len)

    def _in_batches(self) -> list[FakeRequest]:
        return [*self.running.reqs, *(req for batch in self._unprocessed for req in batch.reqs)]
