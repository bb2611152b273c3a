"""The policy's side of the engine's loop: what ran is reported before the next plan is made.

An engine with an overlapped schedule plans an iteration while the one before it runs: it knows what
that one computes, and learns how it went (durations, finished requests) a step later. The driver
keeps the policy's strict alternation of plan and result, whatever the engine's.

Everything here depends on its arguments only, so ranks with the same arguments decide alike.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from niyama.logs import Throttle
from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner
from workers.latency.model import NO_CHUNKS, LatencyModel
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.release import Release
from workers.policy.request import Request

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Computed:
    """One chunk of an iteration that was launched, all in tokens."""

    request_id: str
    tokens: int
    held_tokens: int
    """Held by the engine before this chunk, computed or from the prefix cache."""
    remaining_tokens: int
    """Left of the prompt before this chunk."""


@dataclass(frozen=True, slots=True)
class Launched:
    """One iteration as the engine launched it."""

    chunks: tuple[Computed, ...]
    decodes: int
    decode_context: int
    is_own_pace: bool = True
    """Its duration is that of its own work, not of what another rank does in the same step."""
    processed_later: bool = False
    """Its result is processed while the next one runs."""

    def sample(self, duration_s: float) -> Sample:
        computed = NO_CHUNKS
        for chunk in self.chunks:
            computed = computed.beside(chunk.tokens, chunk.held_tokens)
        tokens, context, pairs = computed
        return Sample(tokens, context, self.decodes, self.decode_context, duration_s, pairs)


Plan = Callable[[float, float, int, int], IterationPlan]
"""The plan of an iteration, from the time now, when it can start, the free KV in tokens, and how
many prompts the engine takes."""


def _unchecked(plan: Plan) -> Plan:
    return plan


class PolicyDriver:
    """Keeps the policy informed of requests and iterations, and asks it for plans."""

    def __init__(
        self,
        policy: NiyamaPolicy,
        learner: LatencyLearner,
        checked: Callable[[Plan], Plan] = _unchecked,
    ) -> None:
        """`checked` wraps `plan`, to compare its arguments and results across ranks."""
        self.policy = policy
        self.plan = checked(self._plan)
        """Plan the iteration that can start at `start_s`: now, or when the one before it ends."""
        self._learner = learner
        self._unreported: list[Launched] = []
        """Launched since the last plan."""
        self._unmeasured: deque[tuple[Launched, bool]] = deque()
        """Launched and not measured yet, with whether more prompts waited than fitted."""
        self._finished: list[str] = []
        self._releases: dict[str, Release] = {}
        self._planned = False
        self._full = False
        self._throttle = Throttle()

    # ---- what happens to requests

    def arrived(self, request: Request, now_s: float) -> None:
        self.policy.add(request, now_s)

    def retracted(self, request_id: str, now_s: float) -> None:
        """The engine retracted a request, and queued it again."""
        self.report(now_s)  # it may be in an iteration that the policy does not know yet
        self.policy.retract(request_id, now_s)

    def found_cached(self, request_id: str, cached_tokens: int, now_s: float) -> None:
        """A request that was taken to have nothing cached has these tokens in the prefix cache."""
        self.policy.found_cached(request_id, cached_tokens, now_s)

    def finished(self, request_id: str) -> None:
        """A request ended by itself."""
        self._finished.append(request_id)

    def aborted(self, request_id: str) -> None:
        """A request was aborted, wherever it was."""
        self._releases.pop(request_id, None)
        self.policy.abort(request_id)

    def clock_stepped(self, now_s: float, step_s: float) -> None:
        """The clock was set by `step_s`, and shows `now_s` now."""
        for request_id, release in self._releases.items():
            self._releases[request_id] = release._replace(first_s=release.first_s + step_s)
        self.policy.clock_stepped(now_s, step_s)

    # ---- iterations

    def accepted(self, tokens: Mapping[str, int]) -> None:
        """What decodes had of an iteration beyond one token each, by request id."""
        self.policy.accepted(tokens)

    @property
    def idle(self) -> bool:
        """There is nothing to report to the policy."""
        return not self._unreported and not self._finished

    def launched(self, iteration: Launched) -> None:
        self._unreported.append(iteration)
        self._unmeasured.append((iteration, self._full))

    def measured(self, durations_s: Sequence[float]) -> LatencyModel | None:
        """Take the durations of the oldest iterations without one.

        Returns the new latency model when they made one; the policy uses it from then on.
        """
        model = None
        for duration_s in durations_s:
            iteration, full = self._unmeasured.popleft()
            if iteration.is_own_pace:
                model = self._learn(iteration, full, duration_s) or model
        if model is not None:
            self.policy.use(model)
        return model

    def _learn(self, iteration: Launched, full: bool, duration_s: float) -> LatencyModel | None:
        """Serving does not depend on learning: when that fails, the last model stays."""
        try:
            sample = iteration.sample(duration_s)
            if duration_s > 0:
                self.policy.measured(sample, full=full)
            return self._learner.add(sample)
        except Exception:
            said = "an iteration could not be learned from; the latency model stays"
            self._throttle.exception(log, said)
            return None

    def _plan(
        self, now_s: float, start_s: float, free_kv_tokens: int, most_prompts: int
    ) -> IterationPlan:
        self.report(start_s)
        plan = self.policy.plan(start_s, free_kv_tokens, most_prompts)
        self._planned, self._full = True, plan.full
        return plan

    def report(self, end_s: float) -> None:
        """Report to the policy what ran since the last report, also when that was nothing."""
        results = [self._result(iteration, end_s) for iteration in self._unreported]
        if not results and (self._planned or self._finished):
            results = [IterationResult(end_s, 0.0, decoded=False)]
        if self._finished:
            results[-1] = replace(results[-1], finished=tuple(self._finished))
        self._unreported, self._finished, self._planned = [], [], False
        for result in results:
            self._releases |= self.policy.observe(result)

    def take_releases(self) -> dict[str, Release]:
        """By request id, when to show the tokens of prompts completed since the last call."""
        releases, self._releases = self._releases, {}
        return releases

    def _result(self, iteration: Launched, end_s: float) -> IterationResult:
        for chunk in iteration.chunks:
            self.policy.correct(
                chunk.request_id,
                held_tokens=chunk.held_tokens,
                remaining_tokens=chunk.remaining_tokens,
            )
        chunks = tuple(Chunk(chunk.request_id, chunk.tokens) for chunk in iteration.chunks)
        return IterationResult(
            end_s,
            0.0,
            chunks,
            decoded=iteration.decodes > 0,
            processed=not iteration.processed_later,
        )
