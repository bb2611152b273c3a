"""Iteration times measured against predicted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.benchmarks.figures import percentile
from tests.benchmarks.gpu.recording import Iteration
from workers.latency.fit import fit


class Row(NamedTuple):
    """Iterations of one kind; milliseconds, and shares of the measured time."""

    kind: str
    chunk: str
    context: str
    iterations: int
    measured_ms: float
    predicted_ms: float
    error_p50: float
    error_p90: float


class PlanCost(NamedTuple):
    """What plans cost beside iterations: milliseconds of one core, and of the iteration."""

    plans: int
    plan_p50_ms: float
    plan_p99_ms: float
    plan_max_ms: float
    iteration_p50_ms: float
    share: float
    """Of all time in iterations."""


def by_kind(iterations: Iterable[Iteration]) -> list[Row]:
    """By what ran, the prompt tokens computed, and the context they were computed after."""
    kinds: dict[tuple[str, int, int], list[Iteration]] = {}
    for each in iterations:
        key = (_kind(each), each.prefill_tokens.bit_length(), _context(each).bit_length() // 2)
        kinds.setdefault(key, []).append(each)
    return [_row(kind, found) for (kind, *_), found in sorted(kinds.items())]


def errors(iterations: Iterable[Iteration]) -> list[float]:
    return [abs(each.predicted_s / each.duration_s - 1) for each in iterations if each.duration_s]


def held_out_error(iterations: Sequence[Iteration]) -> float:
    """Median error on every other iteration of a model that is fitted to the rest."""
    samples = [each.sample for each in iterations if each.duration_s > 0]
    model = fit(samples[::2])
    others = samples[1::2]
    return percentile([abs(model.iteration_s(*s.batch) / s.duration_s - 1) for s in others], 50)


def plan_cost(iterations: Sequence[Iteration]) -> PlanCost:
    costs_ms = [1000 * each.planning_s for each in iterations]
    total_s = sum(each.duration_s for each in iterations)
    return PlanCost(
        plans=len(costs_ms),
        plan_p50_ms=percentile(costs_ms, 50),
        plan_p99_ms=percentile(costs_ms, 99),
        plan_max_ms=max(costs_ms),
        iteration_p50_ms=1000 * percentile([each.duration_s for each in iterations], 50),
        share=sum(costs_ms) / 1000 / total_s,
    )


def _kind(each: Iteration) -> str:
    if not each.prefill_tokens:
        return "decodes"
    return "chunk and decodes" if each.decodes else "chunk"


def _context(each: Iteration) -> int:
    return each.prefill_context if each.prefill_tokens else each.decode_context


def _row(kind: str, found: Sequence[Iteration]) -> Row:
    chunks, contexts = [e.prefill_tokens for e in found], [_context(e) for e in found]
    off = errors(found)
    return Row(
        kind,
        _span(chunks) if max(chunks) else f"{_span([e.decodes for e in found])} decodes",
        _span(contexts),
        len(found),
        1000 * percentile([e.duration_s for e in found], 50),
        1000 * percentile([e.predicted_s for e in found], 50),
        percentile(off, 50),
        percentile(off, 90),
    )


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
