"""How busy an engine is, as it last said."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from niyama.telemetry.buckets import Buckets
from niyama.telemetry.instruments import worker as instruments
from workers.latency.model import Regime
from workers.policy.load import ChatForecast, QueueLoad

_RATES_OVER_S = 0.9
"""At least; less than the time between two reports."""


@dataclass(frozen=True, slots=True)
class IterationCounts:
    """All iterations since the start, as rows of `Buckets`."""

    prediction_ratio: tuple[Sequence[float], ...]
    """What they took over what they were planned to take: a row for each `Regime`."""
    duration_s: Sequence[float]
    chunk_tokens: Sequence[float]


class Iterations:
    """Adds iterations up where they run."""

    def __init__(self) -> None:
        self._prediction_ratio = {
            regime: Buckets(instruments.PREDICTION_RATIOS) for regime in Regime
        }
        self._unmeasured: deque[tuple[Regime, float | None]] = deque()
        """Launched and not ended."""
        self._duration_s = Buckets(instruments.ITERATION_SECONDS)
        self._chunk_tokens = Buckets(instruments.CHUNK_SIZES)

    def launched(self, predicted_s: float | None, prompt_tokens: int, regime: Regime) -> None:
        """`predicted_s`: None where nothing is to be learned from how long it takes."""
        self._unmeasured.append((regime, predicted_s))
        if prompt_tokens:
            self._chunk_tokens.add(prompt_tokens)

    def ended(self, durations_s: Iterable[float]) -> None:
        """The oldest of those launched have ended, one for each duration."""
        for duration_s in durations_s:
            self._duration_s.add(duration_s)
            regime, predicted_s = self._unmeasured.popleft()
            if predicted_s:
                self._prediction_ratio[regime].add(duration_s / predicted_s)

    def counts(self) -> IterationCounts:
        return IterationCounts(
            tuple(ratios.row() for ratios in self._prediction_ratio.values()),
            self._duration_s.row(),
            self._chunk_tokens.row(),
        )


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine, or one data-parallel replica in it."""

    decodes: int
    """Requests that generate tokens."""
    prompt_tokens_per_s: float
    """Computed, over the last second or so."""
    generated_tokens_per_s: float
    used_kv_tokens: int | None = None
    """Without what the prefix cache could give up."""
    kv_tokens: int | None = None
    queue: QueueLoad | None = None
    """What the scheduler has before it; None where there is no scheduler."""
    iterations: IterationCounts | None = None
    """Likewise."""


class TokenRates:
    """Tokens per second, over the last second or so."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._tokens = [0, 0]
        self._since_s = clock()
        self._per_s = (0.0, 0.0)

    def add(self, *, prompt_tokens: int = 0, generated_tokens: int = 0) -> None:
        self._tokens[0] += prompt_tokens
        self._tokens[1] += generated_tokens

    def per_s(self) -> tuple[float, float]:
        """Prompt tokens and generated tokens."""
        span_s = self._clock() - self._since_s
        if span_s >= _RATES_OVER_S:
            self._per_s = (self._tokens[0] / span_s, self._tokens[1] / span_s)
            self._tokens, self._since_s = [0, 0], self._since_s + span_s
        return self._per_s


def together(loads: Collection[EngineLoad]) -> EngineLoad | None:
    """Data-parallel replicas as one: their counts and rates, and the times of the busiest.

    A request may get to any of them. None without any.
    """
    if not loads:
        return None
    queues = [load.queue for load in loads if load.queue is not None]
    return EngineLoad(
        decodes=sum(load.decodes for load in loads),
        prompt_tokens_per_s=sum(load.prompt_tokens_per_s for load in loads),
        generated_tokens_per_s=sum(load.generated_tokens_per_s for load in loads),
        used_kv_tokens=_sum_of_known([load.used_kv_tokens for load in loads]),
        kv_tokens=_sum_of_known([load.kv_tokens for load in loads]),
        queue=_together(queues) if queues else None,
        iterations=_added([load.iterations for load in loads if load.iterations is not None]),
    )


def _added(counts: list[IterationCounts]) -> IterationCounts | None:
    if not counts:
        return None

    def total(rows: Iterable[Sequence[float]]) -> list[float]:
        return [sum(column) for column in zip(*rows, strict=True)]

    return IterationCounts(
        tuple(
            total(rows) for rows in zip(*(each.prediction_ratio for each in counts), strict=True)
        ),
        total(each.duration_s for each in counts),
        total(each.chunk_tokens for each in counts),
    )


def _sum_of_known(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _together(queues: list[QueueLoad]) -> QueueLoad:
    kinds = sorted({kind for queue in queues for kind in queue.backlog_s})
    return QueueLoad(
        waiting=sum(queue.waiting for queue in queues),
        prefilling=sum(queue.prefilling for queue in queues),
        overdue=sum(queue.overdue for queue in queues),
        demand=max(queue.demand for queue in queues),
        tokens_per_s=sum(queue.tokens_per_s for queue in queues),
        backlog_s={
            kind: tuple(
                max(each)
                for each in zip(
                    *(queue.backlog_s[kind] for queue in queues if kind in queue.backlog_s),
                    strict=True,
                )
            )
            for kind in kinds
        },
        chats=tuple(
            ChatForecast(same[0].prompt_tokens, _longest(chat.ttft_s for chat in same))
            for same in zip(*(queue.chats for queue in queues), strict=True)
        ),
    )


def _longest(ttfts_s: Iterable[float | None]) -> float | None:
    """None, which is relegated, is longer than any."""
    found = list(ttfts_s)
    return None if None in found else max(ttft_s or 0.0 for ttft_s in found)
