"""One replica: a policy, a latency model in place of a GPU, and KV memory.

Time jumps from iteration to iteration. A decode costs nothing per iteration: every decode gets
one token in each, so its finishing iteration is known when it starts, and its token times are a
slice of the iteration end times.
"""

import random
from array import array
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from workers.latency.model import NO_CHUNKS, LatencyModel
from workers.policy.plan import Chunk, IterationPlan, IterationResult, Policy
from workers.policy.request import Prefill
from workers.simulator.outcome import Outcome
from workers.simulator.workload import SimRequest

IDLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration as it ran, for pictures. `parked` prompts are in progress and not in it."""

    start_s: float
    duration_s: float
    chunk_tokens: tuple[int, ...]
    interactive_chunk_tokens: int
    decodes: int
    parked: int


class _Running:
    """A request inside the engine."""

    __slots__ = ("context_tokens", "first_iteration", "outcome", "prefill", "sim")

    def __init__(self, sim: SimRequest) -> None:
        self.sim = sim
        self.prefill = Prefill(sim.request)
        self.outcome = Outcome(sim)
        self.first_iteration = -1
        self.context_tokens = 0


class SimulationError(RuntimeError):
    """The policy asked for something no engine can do."""


class Replica:
    def __init__(
        self,
        policy: Policy,
        latency: LatencyModel,
        kv_tokens: int,
        *,
        noise: float = 0.03,
        seed: int = 0,
    ) -> None:
        self.policy = policy
        self.now_s = 0.0
        self.outstanding_tokens = 0
        """Prompt tokens submitted and not finished."""
        self.interactive_outstanding = 0
        """Requests submitted and not finished that limit gaps."""
        self.outcomes: list[Outcome] = []
        self.iterations = 0
        self.used_kv_tokens = 0
        """KV that running requests hold; 0 once all have finished."""
        self.retractions = 0
        self.on_iteration: Callable[[Iteration], None] | None = None
        """Called with every iteration when set; costs a look at every request inside."""
        self._latency = latency
        self._kv_tokens = kv_tokens
        self._noise = noise
        self._random = random.Random(seed)
        self._requests: dict[str, _Running] = {}
        self._decoding: dict[str, _Running] = {}
        self._finishing: dict[int, list[str]] = defaultdict(list)
        self._end_s = array("d")
        self._decode_context = 0

    def submit(self, sim: SimRequest) -> None:
        """A request arrives now; its KV need must fit the replica."""
        if sim.request.prompt_tokens + sim.output_tokens > self._kv_tokens:
            raise SimulationError(
                f"request {sim.request.request_id} needs"
                f" {sim.request.prompt_tokens + sim.output_tokens} KV tokens and the replica has"
                f" {self._kv_tokens}: raise --kv-tokens or leave such requests out"
            )
        self._requests[sim.request.request_id] = _Running(sim)
        self.outstanding_tokens += sim.request.prompt_tokens
        self.interactive_outstanding += sim.request.qos.limits_gaps
        self.policy.add(sim.request, self.now_s)

    def run_until(self, until_s: float) -> None:
        """Run iterations that start before `until_s`; the last may end after it."""
        while self.now_s < until_s:
            if not self._requests:
                self.now_s = until_s
                return
            self._step(until_s)

    def unfinished(self) -> list[Outcome]:
        """Outcomes, so far, of the requests still inside."""
        return [running.outcome for running in self._requests.values()]

    def _step(self, until_s: float) -> None:
        plan = self.policy.plan(self.now_s, self._kv_tokens - self.used_kv_tokens)
        for decision in plan.decisions:
            self._requests[decision.request_id].outcome.note(decision)
        for request_id in plan.reclaim_kv:
            self._reclaim_kv(request_id)
        retracted = self._make_room_for_decodes()
        if not plan.chunks and not self._decoding:
            # The policy waits, or retracted prompts have to start over: plan again soon.
            self.now_s = min(until_s, self.now_s + IDLE_S)
            self.policy.observe(IterationResult(self.now_s, 0.0, retracted=retracted))
            return
        duration_s = self._run(plan)
        finished = self._finishing.pop(self.iterations, [])
        self.iterations += 1
        result = IterationResult(self.now_s, duration_s, plan.chunks, tuple(finished), retracted)
        for request_id, release in self.policy.observe(result).items():
            self._requests[request_id].outcome.release = release
        for request_id in finished:
            self._finish(request_id)

    def _run(self, plan: IterationPlan) -> float:
        """Advance time and every request by one iteration; returns its duration in seconds."""
        decodes, start_s = len(self._decoding), self.now_s
        computed = NO_CHUNKS
        for request_id, tokens in plan.chunks:
            prefill = self._requests[request_id].prefill
            computed = computed.beside(tokens, prefill.context_tokens)
        duration_s = self._latency.iteration_s(
            computed.tokens, computed.context, decodes, self._decode_context, computed.pairs
        ) * max(0.5, self._random.gauss(1.0, self._noise))
        self.now_s += duration_s
        self._end_s.append(self.now_s)
        self._decode_context += decodes
        self.used_kv_tokens += decodes
        for chunk in plan.chunks:
            self._compute(chunk)
        if self.on_iteration is not None:
            self.on_iteration(self._iteration(plan, start_s, duration_s, decodes))
        if self.used_kv_tokens > self._kv_tokens:
            raise SimulationError(
                f"plan overruns KV memory by {self.used_kv_tokens - self._kv_tokens}"
            )
        return duration_s

    def _iteration(
        self, plan: IterationPlan, start_s: float, duration_s: float, decodes: int
    ) -> Iteration:
        planned = {chunk.request_id for chunk in plan.chunks}
        return Iteration(
            start_s,
            duration_s,
            tuple(chunk.tokens for chunk in plan.chunks),
            sum(
                chunk.tokens
                for chunk in plan.chunks
                if self._requests[chunk.request_id].sim.request.qos.limits_gaps
            ),
            decodes,
            sum(
                running.prefill.has_kv and running.prefill.remaining_tokens > 0
                for request_id, running in self._requests.items()
                if request_id not in planned
            ),
        )

    def _compute(self, chunk: Chunk) -> None:
        running = self._requests[chunk.request_id]
        prefill = running.prefill
        if chunk.tokens <= 0 or chunk.tokens > prefill.remaining_tokens:
            raise SimulationError(f"bad chunk {chunk} of {prefill.remaining_tokens}")
        before = prefill.computed_tokens
        done = prefill.advance(chunk.tokens)
        self.used_kv_tokens += prefill.computed_tokens - before
        if not done:
            return
        running.first_iteration = self.iterations
        # The first token's own KV is written by the iteration that follows.
        running.context_tokens = prefill.computed_tokens
        self._decode_context += running.context_tokens
        self._decoding[chunk.request_id] = running
        to_go = running.sim.output_tokens - prefill.generated_tokens - 1
        self._finishing[self.iterations + to_go].append(chunk.request_id)

    def _make_room_for_decodes(self) -> tuple[str, ...]:
        """As SGLang does when decodes run out of memory: push back those with the least output."""
        retracted = []
        while self.used_kv_tokens + len(self._decoding) > self._kv_tokens:
            request_id = min(
                self._decoding,
                key=lambda i: (self._generated(self._decoding[i]), i),
            )
            self._retract(request_id)
            retracted.append(request_id)
        return tuple(retracted)

    def _generated(self, running: _Running) -> int:
        return running.prefill.generated_tokens + self.iterations - running.first_iteration

    def _retract(self, request_id: str) -> None:
        running = self._decoding.pop(request_id)
        self.retractions += 1
        generated = self._generated(running)
        context = running.context_tokens + self.iterations - running.first_iteration - 1
        self.used_kv_tokens -= context
        self._decode_context -= context
        to_go = running.sim.output_tokens - running.prefill.generated_tokens - 1
        self._finishing[running.first_iteration + to_go].remove(request_id)
        running.outcome.token_times.append(self._slice(running))
        running.prefill.generated_tokens = generated
        running.prefill.lose_kv()

    def _reclaim_kv(self, request_id: str) -> None:
        prefill = self._requests[request_id].prefill
        self.used_kv_tokens -= prefill.computed_tokens
        prefill.lose_kv()
        self.retractions += 1

    def _slice(self, running: _Running) -> "array[float]":
        return self._end_s[running.first_iteration : self.iterations]

    def _finish(self, request_id: str) -> None:
        running = self._requests.pop(request_id)
        self.outstanding_tokens -= running.sim.request.prompt_tokens
        self.interactive_outstanding -= running.sim.request.qos.limits_gaps
        del self._decoding[request_id]
        context = running.context_tokens + self.iterations - running.first_iteration - 1
        self.used_kv_tokens -= context
        self._decode_context -= context
        running.outcome.token_times.append(self._slice(running))
        running.outcome.score()
        self.outcomes.append(running.outcome)
