"""SGLang's scheduler in memory: its queue, its one prompt in progress, its batches and results.

`FakeEngine` does what SGLang 0.5.23 does at each seam, and calls the parts of Niyama there as
`NiyamaScheduler` does. It has no model: a chunk is a count, and every request generates zeros.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workers.engine.load import EngineLoad
from workers.engine.port import PrefillChunks
from workers.latency.learner import LatencyLearner
from workers.latency.model import LatencyModel
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision
from workers.policy.plan import IterationPlan
from workers.policy.policy import NiyamaPolicy
from workers.policy.settings import Settings
from workers.runtime.messages import as_aborted, prefill_in, times_in
from workers.runtime.scheduler import accounts
from workers.runtime.scheduler.driver import Plan, PolicyDriver
from workers.runtime.scheduler.parts import assemble
from workers.runtime.scheduler.progress import Progress
from workers.runtime.scheduler.seams import Batch, EngineRequest
from workers.runtime.scheduler.wall_clock import Instant


@dataclass
class FakeSamplingParams:
    custom_params: Mapping[str, Any] | None
    max_new_tokens: int | None


@dataclass(eq=False)
class FakeRequest:
    rid: str
    origin_input_ids: list[int]
    sampling_params: FakeSamplingParams
    niyama: Progress = field(init=False)
    output_ids: list[int] = field(default_factory=list)
    prefix_len: int = 0
    extend_len: int = 0
    inflight_middle_chunks: int = 0
    customized_info: dict[str, list[Any]] | None = None
    session: object | None = None
    beam_group: object | None = None
    input_embeds: object | None = None
    positional_embed_overrides: object | None = None
    skip_radix_cache_insert: bool = False
    extra_key: str | None = None
    """Its own id: it shares nothing with others."""
    cache_salt: str | None = None
    return_logprob: bool = False
    logprob_start_len: int = -1
    sent_info: list[dict[str, list[Any]] | None] = field(default_factory=list)
    """`customized_info` that went out with each token."""
    abort_reason: str | None = None
    """Set: it ends, with this reason, when its next result is processed."""
    ended: bool = False
    times: EngineTimes | None = None
    """Where its time went, with its last output."""
    prefill: PrefillChunks | None = None
    """The chunks of its prompt, likewise."""

    @property
    def seqlen(self) -> int:
        return len(self.origin_input_ids) + len(self.output_ids)

    def finished(self) -> bool:
        return self.ended

    def reset_for_retract(self) -> None:
        self.prefix_len = self.extend_len = self.inflight_middle_chunks = 0

    def set_finish_with_abort(self, error_msg: str) -> None:
        self.abort_reason, self.origin_input_ids = error_msg, [0]

    def stash(self) -> None:
        """The last chunk counts as computed."""
        self.prefix_len, self.extend_len = self.prefix_len + self.extend_len, 0


def request(rid: str, prompt_tokens: int, max_new_tokens: int = 4, **qos: Any) -> FakeRequest:
    """`qos` as in `custom_params`."""
    params = FakeSamplingParams({"qos": qos}, max_new_tokens)
    return FakeRequest(rid, [0] * prompt_tokens, params, extra_key=rid)


def about(document: str, req: FakeRequest) -> FakeRequest:
    """The same request: it begins like all others about this document."""
    return replace(req, extra_key=document)


@dataclass
class FakeForwardMode:
    extends: bool

    def is_extend(self) -> bool:
        return self.extends


@dataclass
class FakePrefillStats:
    num_pending_tokens: int = 0


@dataclass
class FakeBatch:
    reqs: list[FakeRequest]
    forward_mode: FakeForwardMode
    decoding_reqs: list[FakeRequest] | None = None
    prefill_stats: FakePrefillStats | None = None
    batch_is_full: bool = False
    global_num_tokens: list[int] | None = None
    is_extend_in_batch: bool = False

    def is_empty(self) -> bool:
        return not self.reqs


@dataclass
class FakeNextBatch:
    batch_to_run: FakeBatch | None
    running_batch: Batch


@dataclass
class FakePolicy:
    in_progress_limit_tokens: int | None = None


@dataclass
class FakeClock:
    now_s: float = 1000.0
    """UTC epoch seconds."""
    offset_s: float = 900.0
    """Of the monotonic clock, which is behind."""

    def step(self, by_s: float) -> None:
        """Somebody sets the clock."""
        self.now_s += by_s
        self.offset_s += by_s

    def own_s(self) -> float:
        return self.now_s - self.offset_s

    def share(self, durations_s: Sequence[float]) -> tuple[Instant, list[float]]:
        return Instant(self.now_s, self.own_s()), list(durations_s)


@dataclass
class FakeDecisionSender:
    """Keeps the decisions that were flushed."""

    sent: list[Decision] = field(default_factory=list)
    pending: list[Decision] = field(default_factory=list)
    loads: list[EngineLoad] = field(default_factory=list)

    def send_load(self, load: EngineLoad, replica: int) -> None:
        self.loads.append(load)

    def add(self, decision: Decision) -> None:
        self.pending.append(decision)

    def flush(self) -> None:
        self.sent += self.pending
        self.pending.clear()


IDLE_S = 0.001
"""A turn of the loop without a batch."""


class FakeDevice:
    """Runs one batch after the other, each for as long as the latency model says."""

    def __init__(self, latency: LatencyModel) -> None:
        self.decoded_s: list[float] = []
        """When decodes had a token; as all times here, on the monotonic clock."""
        self.mixed = 0
        """Batches that had prompts and decodes in them."""
        self._latency = latency
        self._ends_s: deque[float] = deque()
        self._busy_until_s = 0.0

    def launched(self, batch: FakeBatch, now_s: float) -> None:
        prompts, decodes = _prefilling(batch), _decoding(batch)
        self.mixed += bool(prompts and decodes)
        self._busy_until_s = max(self._busy_until_s, now_s) + self._latency.iteration_s(
            sum(req.extend_len for req in prompts),
            sum(req.prefix_len for req in prompts),
            len(decodes),
            sum(req.seqlen for req in decodes),
        )
        self._ends_s.append(self._busy_until_s)
        if decodes:
            self.decoded_s.append(self._busy_until_s)

    def next_end_s(self) -> float:
        """When the oldest batch that was not asked about ends."""
        return self._ends_s.popleft()


class FakeEngine:
    """SGLang's scheduler with a prefix cache that keeps the beginning of each request."""

    def __init__(
        self,
        latency: LatencyModel,
        settings: Settings,
        *,
        kv_tokens: int = 100_000,
        overlap: bool = False,
        paces: bool = False,
        mixes: bool = True,
        verified_tokens: int = 1,
    ) -> None:
        """`mixes`: as with `--enable-mixed-chunk`. Each decode verifies `verified_tokens`."""
        self.waiting_queue: list[EngineRequest] = []
        self.chunked_req: EngineRequest | None = None
        self.chunked_prefill_size = settings.max_chunk_tokens
        self.policy = FakePolicy()
        self.is_mixed_chunk = mixes
        self.page_size = 1
        self.truncation_align_size: int | None = None
        self.prefill_delayer: object | None = None
        self.enable_overlap = overlap

        self.kv_tokens = kv_tokens
        self.step_s: float | None = 0.05
        """How long an iteration takes; None: as `device` says."""
        self.cached: dict[str, int] = {}
        """Tokens of each request that the prefix cache has, and of what requests are about."""
        self.touched: list[str] = []
        self.dropped: dict[str, Mapping[str, str | int] | None] = {}
        """What ended outside a batch, with the reason that was given."""
        self.launched: list[dict[str, int]] = []
        """Prompt tokens of each iteration, by request."""
        self.planned_kv_tokens: list[int] = []
        """Free KV that each plan was made with."""
        self.passes = 0
        """How often SGLang made a batch, or found that there is none to make."""
        self.leaves_decodes_out = False
        """Decodes join no batch of prompts, for reasons that only SGLang knows."""
        self.not_ready: set[str] = set()
        """Requests that SGLang skips: their adapter or their prefix is not loaded yet."""
        self.building: Callable[[], None] = lambda: None
        """Called while a batch is being made."""
        self.running = FakeBatch([], FakeForwardMode(extends=False))
        self.clock = FakeClock()
        self.sender = FakeDecisionSender()
        self.models: list[LatencyModel] = []
        self.heartbeats = 0
        self.device = FakeDevice(latency)
        self._unprocessed: list[FakeBatch] = []
        self._aborting: FakeRequest | None = None
        self._idled = True
        self.drafts: list[int] = []
        """Of how many tokens the drafts are that decodes have accepted, step by step; then none."""
        policy = NiyamaPolicy(latency, settings, verified_tokens=verified_tokens)
        self.learner = LatencyLearner()
        self.driver = PolicyDriver(policy, self.learner, checked=self._recorded)
        self.niyama = assemble(
            self,
            self.driver,
            self.clock,
            self.sender,
            self.models.append,
            latency_is_known=True,
            paces=paces,
            has_worker=True,
        )

    def _recorded(self, plan: Plan) -> Plan:
        def recorded(now_s: float, start_s: float, free_kv_tokens: int) -> IterationPlan:
            self.planned_kv_tokens.append(free_kv_tokens)
            return plan(now_s, start_s, free_kv_tokens)

        return recorded

    # ---- what tests do

    def arrive(self, *requests: FakeRequest) -> None:
        self.niyama.clock.tick()
        for each in requests:
            self._add_to_queue(each)

    def abort(self, rid: str) -> None:
        """End a request as SGLang's `abort_request` does, which looks for it in every place."""
        if self.chunked_req is not None and self.chunked_req.rid == rid:
            self._aborting = _real(self.chunked_req)
        for req in [req for req in self.waiting_queue if req.rid == rid]:
            self.waiting_queue.remove(req)
            self._send_abort_output(req, None)
        for req in self._in_batches():
            if req.rid == rid:
                req.abort_reason = "aborted"

    def retract(self, rid: str) -> None:
        """Take the KV of a decode back, as SGLang does when memory is short."""
        (req,) = [req for req in self.running.reqs if req.rid == rid]
        self.running.reqs.remove(req)
        req.reset_for_retract()
        self._add_to_queue(req)

    def step(self) -> None:
        """One turn of SGLang's event loop."""
        self.niyama.heartbeat.turn()
        self._abort_chunked()
        if self.chunked_req is not None:
            self._stash(_real(self.chunked_req))
        batch = self._next_batch()
        if batch is not None:
            self.niyama.watcher.launching(batch, after_idle=self._idled)
            self.niyama.watcher.launched()
            prefilling = _prefilling(batch)
            self.launched.append({req.rid: req.extend_len for req in prefilling})
            self._unprocessed.append(batch)
        self._idled = batch is None
        if batch is None or self.step_s is not None:
            self.clock.now_s += self.step_s or IDLE_S
        else:
            self.device.launched(batch, self.clock.own_s())
        while len(self._unprocessed) > (1 if self.enable_overlap and batch else 0):
            if self.step_s is None:
                self.clock.now_s += max(0.0, self.device.next_end_s() - self.clock.own_s())
            self._process(self._unprocessed.pop(0))

    def run(self, limit: int = 500) -> None:
        """Step until nothing is left, and once more, as an idle loop does."""
        for _ in range(limit):
            if self.is_idle:
                self.step()
                return
            self.step()
        raise AssertionError(f"not idle after {limit} iterations")

    @property
    def is_idle(self) -> bool:
        return not (
            self.niyama.parking.is_busy
            or self.waiting_queue
            or self.chunked_req
            or self.running.reqs
            or self._unprocessed
        )

    def reported(self, rid: str) -> list[str]:
        """The kinds of the decisions that were sent about a request."""
        return [str(d.kind) for d in self.sender.sent if d.request_id == rid]

    # ---- what Niyama's parts call

    @property
    def scheduler(self) -> "FakeEngine":
        return self

    def total_kv_tokens(self) -> int:
        return self.kv_tokens

    def free_kv_tokens(self) -> int:
        held = {id(req): req for req in self._in_batches() if not req.ended}
        if self.chunked_req is not None:
            held[id(self.chunked_req)] = _real(self.chunked_req)
        return self.kv_tokens - sum(
            max(req.prefix_len + req.extend_len, 0) for req in held.values()
        )

    def cached_tokens(self, req: EngineRequest) -> int:
        cached = max(self.cached.get(key, 0) for key in (req.rid, req.extra_key or ""))
        return min(cached, _real(req).seqlen - 1)

    def shares_prefixes(self) -> bool:
        return True

    def touch(self, req: EngineRequest) -> None:
        self.touched.append(req.rid)

    def release_kv(self, req: EngineRequest) -> None:
        assert req.inflight_middle_chunks == 0, "its last chunk still runs"

    def requeue(self, req: EngineRequest) -> None:
        self._add_to_queue(_real(req))

    def drop(self, req: EngineRequest, finish_reason: Mapping[str, str | int]) -> None:
        queue, place = self.waiting_queue, req.niyama.place
        at = bisect_left(queue, place, key=lambda each: each.niyama.place)
        assert at == len(queue) or queue[at] is not req, "it still waits"
        self._send_abort_output(req, finish_reason)

    def was_aborted(self, req: EngineRequest) -> bool:
        return req.finished() and _real(req).abort_reason is not None

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
        self._tell(_real(req), reason or as_aborted(None))
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
        budget = self.chunked_prefill_size
        budget -= len(running_batch.reqs) if self.is_mixed_chunk else 0
        admitted: list[FakeRequest] = []
        if self.chunked_req is not None:
            req = _real(self.chunked_req)
            limit = self.policy.in_progress_limit_tokens or budget
            req.extend_len = min(limit, budget, req.seqlen - req.prefix_len)
            budget -= req.extend_len
            admitted.append(req)
            if req.prefix_len + req.extend_len == req.seqlen:
                self.chunked_req = None
        for waiting in self.waiting_queue:
            req = _real(waiting)
            if req.rid in self.not_ready:
                continue
            if budget <= 0 or req.seqlen > self.free_kv_tokens():
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
        elif req not in self.running.reqs and not req.ended:
            self.running.reqs.append(req)

    def _stash(self, req: FakeRequest) -> None:
        req.stash()
        self.cached[req.rid] = req.prefix_len
        if req.extra_key is not None and req.extra_key != req.rid:
            self.cached[req.extra_key] = max(self.cached.get(req.extra_key, 0), req.prefix_len)

    def _in_batches(self) -> list[FakeRequest]:
        return [*self.running.reqs, *(req for batch in self._unprocessed for req in batch.reqs)]


def _real(req: EngineRequest) -> FakeRequest:
    assert isinstance(req, FakeRequest)
    return req


def _prefilling(batch: FakeBatch) -> list[FakeRequest]:
    if not batch.forward_mode.is_extend():
        return []
    return [req for req in batch.reqs if req not in (batch.decoding_reqs or [])]


def _decoding(batch: FakeBatch) -> list[FakeRequest]:
    return list(batch.decoding_reqs or ()) if batch.forward_mode.is_extend() else batch.reqs
