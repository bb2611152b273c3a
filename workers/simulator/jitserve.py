"""JITServe (arXiv 2504.20068, NSDI 2026), as far as its abstract and artifact say what it does.

The artifact is github.com/UIUC-MLSys/JITServe. Every `FRAME_ITERATIONS` the batch is chosen anew
(`gmax`): whoever is running and not chosen is preempted, whoever is chosen and waits is admitted.
Between these choices places that become free go to the best of those that wait.

Where sources leave something open it is read in JITServe's favour: preemption costs nothing (the
artifact swaps KV to the host; here it stays), free places are filled and prompts computed by margin
(there: first come, first served), and remaining time includes the prompt's. `just_enough` is the
paper's rule of that name, of which the artifact has only what it does for compound requests.
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.policy.plan import Chunk, IterationResult
from workers.policy.release import Release
from workers.policy.request import Prefill, Request
from workers.simulator.engine_state import EngineState
from workers.simulator.gmax import (
    CallCounts,
    Margin,
    Pace,
    Progress,
    UpperBounds,
    best_group,
    margin_of,
)
from workers.simulator.planner import PausingPlan

FRAME_ITERATIONS = 50
QUANTILE = 0.95
PENALTY = 100.0
"""The exponent of lateness in the artifact's experiments."""
BATCH_REQUESTS = 32
"""Requests in a batch in the artifact's experiments."""
_FIRST_ITERATION_S = 0.02
"""Assumed until iterations were measured; the artifact's."""


@dataclass(slots=True)
class _Answer:
    request: Request
    generated: int
    share_s: float


class JitServePolicy:
    """Chunks of `chunk_tokens`, decodes included, for the prompts of the batch."""

    def __init__(
        self,
        chunk_tokens: int,
        *,
        batch_requests: int = BATCH_REQUESTS,
        just_enough: bool = True,
        breadth: int = 1,
    ) -> None:
        """`breadth` times `batch_requests` are sorted by length to find a group; with 1 there is
        no grouping, as no law here makes batches of different lengths slower.
        """
        self._chunk_tokens = chunk_tokens
        self._batch_requests = batch_requests
        self._just_enough = just_enough
        self._breadth = breadth
        self._state = EngineState()
        self._answers: dict[str, _Answer] = {}
        self._bounds = UpperBounds(QUANTILE)
        self._calls = CallCounts()
        self._batch: dict[str, Margin] = {}
        """The chosen that are still here, and what they were chosen by."""
        self._others: list[tuple[Margin, str]] = []
        """All others, the best last; those that are gone are skipped."""
        self._iterations = 0
        self._recent_s: deque[float] = deque(maxlen=FRAME_ITERATIONS)
        self._running: set[str] = set()
        """Answers that took part in the last iteration."""

    def add(self, request: Request, now_s: float) -> None:
        prefill = self._state.add(request)
        self._calls.observe(request)
        insort(self._others, (self._margin(self._waiting(prefill), now_s), request.request_id))

    def abort(self, request_id: str) -> None:
        self._state.abort(request_id)
        self._answers.pop(request_id, None)
        self._batch.pop(request_id, None)

    def correct(self, request_id: str, *, held_tokens: int, remaining_tokens: int) -> None:
        self._state.prefills[request_id].correct(held_tokens, remaining_tokens)

    def measured(self, ran: Sample, *, full: bool) -> None:
        self._recent_s.append(ran.duration_s)

    def use(self, model: LatencyModel) -> None:
        """Times are measured, not modelled."""

    def plan(self, now_s: float, free_kv_tokens: int) -> PausingPlan:
        if self._iterations % FRAME_ITERATIONS == 0:
            self._choose(now_s)
        self._iterations += 1
        self._fill()
        self._running = self._batch.keys() & self._answers.keys()
        prefills = self._state.prefills
        batch = [prefills[name] for name in self._batch if name in prefills]
        chunks = self._chunks(batch, len(self._running), free_kv_tokens)
        if not chunks and not self._running:
            # No memory for the prompts of the batch: it comes from answers that end, and from
            # prompts that have begun.
            self._running = set(self._answers)
            begun = [prefill for prefill in prefills.values() if prefill.has_kv]
            chunks = self._chunks(begun, len(self._running), free_kv_tokens)
        paused = frozenset(self._answers.keys() - self._running)
        return PausingPlan(tuple(chunks), paused=paused)

    def observe(self, result: IterationResult) -> dict[str, Release]:
        for request_id in result.retracted:
            self._retract(request_id)
        if result.decoded:
            for request_id in self._running & self._answers.keys():
                self._answers[request_id].generated += 1
        for prefill in self._state.compute(result):
            self._answers[prefill.request_id] = _Answer(
                prefill.request,
                prefill.generated_tokens + 1,
                self._calls.share_s(prefill.request),
            )
        for request_id in result.finished:
            answer = self._answers.get(request_id)
            if answer is not None:
                self._bounds.observe(answer.request, answer.generated)
            self.abort(request_id)
        return {}

    # ---- details

    def _choose(self, now_s: float) -> None:
        """The batch until the next choice."""
        margins = {p.request.request_id: (self._margin(p, now_s), p.length) for p in self._all()}
        group = best_group(
            [(margin, length, request_id) for request_id, (margin, length) in margins.items()],
            self._batch_requests,
            breadth=self._breadth,
        )
        self._batch = {request_id: margins[request_id][0] for request_id in group}
        self._others = sorted(
            (margin, request_id)
            for request_id, (margin, _) in margins.items()
            if request_id not in self._batch
        )

    def _fill(self) -> None:
        """Places that are free go to the best of the others."""
        while len(self._batch) < self._batch_requests and self._others:
            margin, request_id = self._others.pop()
            if request_id in self._answers or request_id in self._state.prefills:
                self._batch[request_id] = margin

    def _chunks(self, prompts: Sequence[Prefill], running: int, free_kv_tokens: int) -> list[Chunk]:
        """Those of the batch first, by their margins."""
        budget = min(self._chunk_tokens, free_kv_tokens) - running
        unreserved = free_kv_tokens - running - self._state.reserved_kv_tokens()
        chunks: list[Chunk] = []
        for prefill in sorted(prompts, key=self._order, reverse=True):
            if budget <= 0:
                break
            if not prefill.has_kv:
                if prefill.missing_kv_tokens > unreserved:
                    break
                unreserved -= prefill.missing_kv_tokens
            tokens = min(budget, prefill.remaining_tokens)
            chunks.append(Chunk(prefill.request_id, tokens))
            budget -= tokens
        return chunks

    def _order(self, prefill: Prefill) -> tuple[bool, Margin | None, str]:
        margin = self._batch.get(prefill.request_id)
        return margin is not None, margin, prefill.request_id

    def _retract(self, request_id: str) -> None:
        answer = self._answers.pop(request_id)
        prefill = Prefill.of_retracted(answer.request, answer.generated)
        self._state.prefills[request_id] = prefill

    def _all(self) -> list[Progress]:
        waiting = [self._waiting(prefill) for prefill in self._state.prefills.values()]
        return waiting + [
            Progress(
                a.request, a.share_s, 0, a.generated, self._bounds.tokens(a.request, a.generated)
            )
            for a in self._answers.values()
        ]

    def _waiting(self, prefill: Prefill) -> Progress:
        request, generated = prefill.request, prefill.generated_tokens
        return Progress(
            request,
            self._calls.share_s(request),
            prefill.remaining_tokens,
            generated,
            self._bounds.tokens(request, generated),
        )

    def _margin(self, progress: Progress, now_s: float) -> Margin:
        mean_s = sum(self._recent_s) / len(self._recent_s) if self._recent_s else 0.0
        iteration_s = mean_s or _FIRST_ITERATION_S
        margin = margin_of(
            progress,
            Pace(iteration_s, self._chunk_tokens),
            now_s,
            penalty=PENALTY,
            horizon_s=FRAME_ITERATIONS * iteration_s,
        )
        return margin if self._just_enough else margin._replace(urgent=False)
