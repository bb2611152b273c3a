"""What the engine of a replica does: it runs planned iterations and keeps KV memory.

A decode costs nothing per iteration: every decode gets one token in each, so its finishing
iteration is known when it starts, and its token times are a slice of the iterations' end times.
"""

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from workers.latency.model import NO_CHUNKS
from workers.policy.plan import Chunk
from workers.policy.request import Prefill, Request
from workers.simulator.kv_memory import KvMemory
from workers.simulator.laws import Work
from workers.simulator.outcome import Outcome
from workers.simulator.workload import BLOCK_TOKENS, SimRequest


class Running:
    """A request inside the engine."""

    __slots__ = ("carried_tokens", "first_iteration", "outcome", "prefill", "sim", "spans")

    def __init__(self, sim: SimRequest, request: Request) -> None:
        self.sim = sim
        self.prefill = Prefill(request)
        self.outcome = Outcome(sim)
        self.first_iteration = -1
        """That of its first token since it last had to start over, or was resumed."""
        self.carried_tokens = -1
        """KV tokens of its answer when it was resumed; -1: the first token's own is yet to come."""
        self.spans: list[tuple[int, int]] = []
        """Iterations that gave it tokens before that, as ranges."""


class Begun(NamedTuple):
    """A prompt of which the engine found a prefix in its cache, before its first chunk."""

    request_id: str
    cached_tokens: int
    remaining_tokens: int


class Launch(NamedTuple):
    """An iteration as it was launched."""

    chunks: list[Chunk]
    """What was computed of the planned chunks."""
    begun: list[Begun]
    work: Work = Work(NO_CHUNKS, 0, 0)
    accepted: Mapping[str, int] = {}
    """Of drafts: tokens that decodes have of it beyond one each."""


class SimulationError(RuntimeError):
    """The policy asked for something no engine can do."""


class Engine:
    def __init__(self, kv_tokens: int) -> None:
        self.memory = KvMemory(kv_tokens, BLOCK_TOKENS)
        self.requests: dict[str, Running] = {}
        self.decoding: dict[str, Running] = {}
        self.paused: dict[str, Running] = {}
        """Decodes that keep their KV and get no tokens."""
        self.launched = 0
        """Iterations so far."""
        self.retractions = 0
        self.computed_tokens = 0
        """Prompt tokens computed, those computed again included."""
        self.cached_tokens = 0
        """Prompt tokens found in the prefix cache."""
        self._end_s = array("d")
        self._finishing: dict[int, list[str]] = defaultdict(list)
        self._decode_context = 0

    def submit(self, sim: SimRequest) -> Request:
        """A request arrives; returns it with the prefix that is cached now."""
        needed = sim.request.prompt_tokens + sim.output_tokens
        if needed > self.memory.tokens:
            raise SimulationError(
                f"request {sim.request.request_id} needs {needed} KV tokens and the replica has"
                f" {self.memory.tokens}: raise --kv-tokens or leave such requests out"
            )
        cached = self.memory.cached_tokens(sim.blocks)
        request = replace(sim.request, cached_tokens=cached) if cached else sim.request
        self.requests[request.request_id] = Running(sim, request)
        return request

    # ---- one iteration

    def launch(self, chunks: Sequence[Chunk], *, leaving: int = 0) -> Launch:
        """Every decode that is not paused advances, and these chunks are computed.

        `leaving` decodes have all their tokens, which the engine has not noticed yet.
        """
        decodes, decode_context = len(self.decoding), self._decode_context
        self._decode_context += decodes
        self.memory.decoded(decodes)
        launch = self._launch_prompts(chunks, leaving=leaving)
        if self.paused and decodes == leaving:  # they are not computed by themselves
            decodes = decode_context = 0
        return launch._replace(work=Work(launch.work.prompts, decodes, decode_context))

    def _launch_prompts(self, chunks: Sequence[Chunk], *, leaving: int) -> Launch:
        launch = Launch([], [])
        prompts = NO_CHUNKS
        left = sum(chunk.tokens for chunk in chunks)
        for chunk in chunks:
            context = self._run(chunk, launch, left if chunk is not chunks[-1] else chunk.tokens)
            if context is not None:
                computed = launch.chunks[-1]
                prompts = prompts.beside(computed.tokens, context)
                left -= computed.tokens
                if self.requests[computed.request_id].prefill.remaining_tokens > 0:
                    break
        self.launched += 1
        if self.memory.free_tokens < -leaving:
            raise SimulationError(f"plan overruns KV memory by {-self.memory.free_tokens}")
        self.memory.evict()
        return launch._replace(work=Work(prompts, 0, 0))

    def _run(self, chunk: Chunk, launch: Launch, most_tokens: int) -> int | None:
        """Compute a chunk, after so many tokens; None when there is no memory for it after all.

        Only the last prompt of an iteration can stay unfinished, as in SGLang: one of which less
        is cached than planned takes what the others would have had, up to `most_tokens`.
        """
        prefill = self.requests[chunk.request_id].prefill
        if not 0 < chunk.tokens <= prefill.remaining_tokens:
            raise SimulationError(f"bad chunk {chunk} of {prefill.remaining_tokens}")
        tokens, context = chunk.tokens, prefill.computed_tokens
        if not prefill.has_kv:
            begun = self._begin(chunk.request_id)
            launch.begun.append(begun)
            context = begun.cached_tokens
            tokens = min(most_tokens, begun.remaining_tokens)
        if launch.begun:
            # The cache may have more of them, in blocks that were free until now, or less.
            tokens = min(tokens, self.memory.free_tokens)
        if tokens <= 0:
            if not prefill.has_kv:
                self.memory.release(chunk.request_id)
            return None
        self._compute(chunk.request_id, tokens)
        launch.chunks.append(Chunk(chunk.request_id, tokens))
        return context

    def end(self, end_s: float) -> list[str]:
        """The iteration launched before the others that have not ended ends: who finishes."""
        self._end_s.append(end_s)
        return self._finishing.pop(len(self._end_s) - 1, [])

    def finish(self, request_id: str) -> Outcome:
        """A request that has all its tokens leaves."""
        running = self.requests.pop(request_id)
        del self.decoding[request_id]
        self._let_go(running)
        last = running.first_iteration + self._to_go(running)
        spans = [*running.spans, (running.first_iteration, last + 1)]
        running.outcome.token_times = [self._end_s[first:end] for first, end in spans]
        running.outcome.score()
        return running.outcome

    # ---- pausing

    def pause_only(self, request_ids: Set[str]) -> None:
        """From the next iteration on these decodes are paused, and no others."""
        for request_id in self.paused.keys() - request_ids:
            self._resume(request_id)
        for request_id in self.decoding.keys() & request_ids:
            running = self.decoding[request_id]
            if self._generated(running) < running.sim.output_tokens:
                self._pause(request_id)

    def _pause(self, request_id: str) -> None:
        running = self.paused[request_id] = self.decoding.pop(request_id)
        decoded = self._decoded(running)
        self._interrupt(running)
        self._decode_context -= running.prefill.computed_tokens + decoded
        running.carried_tokens = decoded

    def _resume(self, request_id: str) -> None:
        """Unlike a prompt's first, its next token comes with KV of the one before it."""
        running = self.decoding[request_id] = self.paused.pop(request_id)
        running.first_iteration = self.launched
        self._decode_context += running.prefill.computed_tokens + running.carried_tokens
        self._finishing[self.launched + self._to_go(running)].append(request_id)

    def _interrupt(self, running: Running) -> None:
        """It gets no token from the next iteration, although it has more to come."""
        last = running.first_iteration + self._to_go(running)
        self._finishing[last].remove(running.sim.request.request_id)
        running.spans.append((running.first_iteration, self.launched))
        running.prefill.generated_tokens = self._generated(running)

    # ---- memory

    def make_room(self) -> tuple[str, ...]:
        """As SGLang does when decodes run out of memory: push back those with the least output."""
        retracted = []
        ending = self._ending()
        while self.memory.free_tokens < (self._step_kv_tokens * (len(self.decoding) - len(ending))):
            request_id = min(
                self.decoding.keys() - ending,
                key=lambda i: (self._generated(self.decoding[i]), i),
            )
            self._retract(self.decoding.pop(request_id))
            retracted.append(request_id)
        return tuple(retracted)

    def _ending(self) -> set[str]:
        """Decodes that get their last token from the iteration in flight: they need no memory."""
        in_flight = self.launched > len(self._end_s)
        return set(self._finishing.get(len(self._end_s), ())) if in_flight else set()

    @property
    def _step_kv_tokens(self) -> int:
        """KV that a decode may need in an iteration."""
        return 1

    def reclaim(self, request_id: str) -> None:
        """A prompt in progress loses its KV."""
        self.memory.release(request_id)
        self.requests[request_id].prefill.lose_kv()
        self.retractions += 1

    def _begin(self, request_id: str) -> Begun:
        running = self.requests[request_id]
        prefill = running.prefill
        total = running.sim.request.prompt_tokens + prefill.generated_tokens
        cached = self.memory.start(request_id, running.sim.blocks)
        self.cached_tokens += cached
        prefill.correct(cached, total - cached)
        return Begun(request_id, cached, total - cached)

    def _compute(self, request_id: str, tokens: int) -> None:
        running = self.requests[request_id]
        done = running.prefill.advance(tokens)
        self.memory.computed(request_id, tokens)
        self.computed_tokens += tokens
        if done:
            self._join_decodes(running)

    def _join_decodes(self, running: Running) -> None:
        """A prompt is complete with the iteration that is launched."""
        request_id = running.sim.request.request_id
        running.first_iteration = self.launched
        running.carried_tokens = -1
        # The first token's own KV is written by the iteration that follows.
        self._decode_context += running.prefill.computed_tokens
        self.decoding[request_id] = running
        self._finishing[running.first_iteration + self._to_go(running)].append(request_id)

    def _to_go(self, running: Running) -> int:
        """Tokens after the first since it last had to start over."""
        return running.sim.output_tokens - running.prefill.generated_tokens - 1

    def _generated(self, running: Running) -> int:
        return running.prefill.generated_tokens + self.launched - running.first_iteration

    def _decoded(self, running: Running) -> int:
        """KV tokens of its answer."""
        return running.carried_tokens + self.launched - running.first_iteration

    def _retract(self, running: Running) -> None:
        self.retractions += 1
        self._let_go(running)
        self._interrupt(running)
        running.prefill.lose_kv()

    def _let_go(self, running: Running) -> None:
        """Its KV is freed, also what an iteration wrote after its last token."""
        decoded = self._decoded(running)
        self.memory.release(running.sim.request.request_id, decoded)
        self._decode_context -= running.prefill.computed_tokens + decoded
