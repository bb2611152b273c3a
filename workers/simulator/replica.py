"""One replica: a scheduler, an engine, and a law in place of a GPU.

Time jumps from iteration to iteration. With `overlap` each is planned while the one before it
runs, as SGLang does: by when that one is expected to end, without knowing who finishes in it or
who arrives meanwhile, and its durations come a step later.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.simulator.engine import Engine, Launch
from workers.simulator.laws import Law
from workers.simulator.outcome import Outcome
from workers.simulator.planner import PausingPlan, Planner
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


class _Planned(NamedTuple):
    plan: IterationPlan
    retracted: tuple[str, ...]
    """Decodes that lost their KV for it."""


class _InFlight(NamedTuple):
    """An iteration that runs, and what the policy has to hear of it."""

    planned: _Planned
    launch: Launch
    start_s: float
    duration_s: float


class Replica:
    def __init__(
        self,
        policy: Planner,
        law: Law,
        *,
        overlap: bool = False,
        learner: LatencyLearner | None = None,
        seed: int = 0,
        engine: Engine | None = None,
        accepted: Callable[[Mapping[str, int]], None] | None = None,
    ) -> None:
        """With a `learner` the policy plans by what it fits to measured iterations, as a worker.

        `engine`: another than the usual one. `accepted` hears, after each iteration was observed,
        how many tokens beyond one each decode had of it; without it nobody knows of drafts.
        """
        self.policy = policy
        self.now_s = 0.0
        self.outstanding_tokens = 0
        """Prompt tokens submitted and not finished."""
        self.interactive_outstanding = 0
        """Requests submitted and not finished that somebody waits for."""
        self.outcomes: list[Outcome] = []
        self.engine = engine or Engine(law.kv_tokens)
        self.on_iteration: Callable[[Iteration], None] | None = None
        """Called with every iteration when set; costs a look at every request inside."""
        self._law = law
        self._overlap = overlap
        self._learner = learner
        self._accepted = accepted
        self._random = random.Random(seed)
        self._in_flight: _InFlight | None = None
        self._finished: list[str] = []
        """Requests that have left and that the policy has not heard of."""
        self._follow: list[SimRequest] = []
        """Calls that follow those that were answered in the last step."""

    def submit(self, sim: SimRequest) -> None:
        """A request arrives now; its KV need must fit the replica."""
        request = self.engine.submit(sim)
        self.outstanding_tokens += request.prompt_tokens
        self.interactive_outstanding += request.qos.is_interactive
        self.policy.add(request, self.now_s)

    def run_until(self, until_s: float) -> None:
        """Run iterations that start before `until_s`; the last may end after it."""
        while self.now_s < until_s:
            if not self.engine.requests:
                self.now_s = until_s
                return
            self._step(until_s)

    def run_one(self, until_s: float) -> list[SimRequest]:
        """Run an iteration, if one starts before `until_s`; returns the calls that follow it.

        A call that follows another arrives after the answer to that, here or elsewhere.
        """
        self._follow = []
        self._step(until_s)
        return self._follow

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.engine.requests)

    def unfinished(self) -> list[Outcome]:
        """Outcomes, so far, of the requests still inside."""
        return [running.outcome for running in self.engine.requests.values()]

    # ---- one iteration

    def _step(self, until_s: float) -> None:
        ran = self._in_flight or self._launch(self._plan(self.now_s))
        if ran is None:
            # The policy waits, or retracted prompts have to start over: plan again soon.
            self.now_s = min(until_s, self.now_s + IDLE_S)
        elif self._overlap:
            self._in_flight = self._plan_while_running(ran)
        else:
            self._finished = finished = self._end(ran)
            self._report(ran, self.now_s)
            self._tell_accepted(ran)
            self._leave(finished)

    def _plan_while_running(self, ran: _InFlight) -> _InFlight | None:
        """An iteration runs; returns the next one, which is launched when it ends."""
        expected_s = ran.start_s + ran.planned.plan.predicted_s
        self._report(ran, expected_s)
        planned = self._plan(expected_s)
        self._finished = finished = self._end(ran)
        self._tell_accepted(ran)
        following = self._launch(planned, leaving=len(finished))
        self._leave(finished)
        return following

    def _plan(self, start_s: float) -> _Planned:
        """The plan of an iteration that starts then, and room for its decodes."""
        if self._finished:  # the engine has been idle since
            self._tell(start_s)
        plan = self.policy.plan(start_s, self.engine.memory.free_tokens)
        for decision in plan.decisions:
            self.engine.requests[decision.request_id].outcome.note(decision)
        for request_id in plan.reclaim_kv:
            self.engine.reclaim(request_id)
        if isinstance(plan, PausingPlan):
            self.engine.pause_only(plan.paused)
        elif plan.decodes_wait or self.engine.paused:
            waiting = self.engine.decoding.keys() | self.engine.paused.keys()
            self.engine.pause_only(waiting if plan.decodes_wait else frozenset())
        return _Planned(plan, self.engine.make_room())

    def _launch(self, planned: _Planned, *, leaving: int = 0) -> _InFlight | None:
        """The iteration starts now; None when there is nothing to run."""
        plan, retracted = planned
        if not plan.chunks and len(self.engine.decoding) == leaving:
            self._tell(self.now_s, retracted=retracted)
            return None
        launch = self.engine.launch(plan.chunks, leaving=leaving)
        duration_s = self._law.lasts_s(launch.work, self.now_s, self._random)
        if self.on_iteration is not None:
            self.on_iteration(self._iteration(launch, duration_s))
        return _InFlight(planned, launch, self.now_s, duration_s)

    def _end(self, ran: _InFlight) -> list[str]:
        """The iteration ends; returns who has all tokens."""
        self.now_s = ran.start_s + ran.duration_s
        work, duration_s = ran.launch.work, ran.duration_s
        tokens, context, pairs = work.prompts
        decodes = work.decodes if self._accepted is None else work.decode_tokens
        sample = Sample(tokens, context, decodes, work.decode_context, duration_s, pairs)
        self.policy.measured(sample, full=ran.planned.plan.full)
        if self._learner is not None and (model := self._learner.add(sample)) is not None:
            self.policy.use(model)
        return self.engine.end(self.now_s)

    def _report(self, ran: _InFlight, end_s: float) -> None:
        """Tell the policy what ran, and who has finished since it was last told."""
        for request_id, cached_tokens, remaining_tokens in ran.launch.begun:
            self.policy.correct(
                request_id, held_tokens=cached_tokens, remaining_tokens=remaining_tokens
            )
        chunks, retracted = tuple(ran.launch.chunks), ran.planned.retracted
        decoded = ran.launch.work.decodes > 0
        self._tell(end_s, chunks, retracted, decoded=decoded)

    def _tell(
        self,
        end_s: float,
        chunks: tuple[Chunk, ...] = (),
        retracted: tuple[str, ...] = (),
        *,
        decoded: bool = False,
    ) -> None:
        finished, self._finished = tuple(self._finished), []
        # Durations are told when they are measured.
        result = IterationResult(
            end_s, 0.0, chunks, finished, retracted, decoded, processed=not self._overlap
        )
        for request_id, release in self.policy.observe(result).items():
            self.engine.requests[request_id].outcome.release = release

    def _tell_accepted(self, ran: _InFlight) -> None:
        if self._accepted is not None and ran.launch.accepted:
            self._accepted(ran.launch.accepted)

    def _leave(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            outcome = self.engine.finish(request_id)
            self.outstanding_tokens -= outcome.sim.request.prompt_tokens
            self.interactive_outstanding -= outcome.sim.request.qos.is_interactive
            if (following := outcome.sim.next_call(outcome.last_token_s)) is not None:
                self._follow.append(following)
            else:
                self.outcomes.append(outcome)

    def _iteration(self, launch: Launch, duration_s: float) -> Iteration:
        requests = self.engine.requests
        computed = {chunk.request_id for chunk in launch.chunks}
        return Iteration(
            self.now_s,
            duration_s,
            tuple(chunk.tokens for chunk in launch.chunks),
            sum(
                chunk.tokens
                for chunk in launch.chunks
                if requests[chunk.request_id].sim.request.qos.is_interactive
            ),
            launch.work.decodes,
            sum(
                running.prefill.has_kv and running.prefill.remaining_tokens > 0
                for request_id, running in requests.items()
                if request_id not in computed
            ),
        )
