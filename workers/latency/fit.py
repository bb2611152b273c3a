"""Fitting the latency model to measured iterations, by least squares."""

from collections.abc import Sequence
from typing import NamedTuple

from workers.latency.model import Coefficients, LatencyModel

_MIN_SAMPLES = 12
"""Regimes need this many samples of their own to get their own coefficients."""
_DAMPING = 1e-9


class Sample(NamedTuple):
    """One measured iteration; contexts as in `LatencyModel.iteration_s`."""

    prefill_tokens: int
    prefill_context: int
    decodes: int
    decode_context: int
    duration_s: float


class FitError(ValueError):
    """The samples do not determine a model; the message says what is missing."""


def fit(samples: Sequence[Sample], *, split_tokens: int = 512) -> LatencyModel:
    """Least squares of relative error in each regime that has enough samples of its own.

    Those of decodes only count among the small ones otherwise; a small or large regime with too
    few takes them all.

    Prefill and decode tokens have one coefficient each, so `total_token_s` stays 0. Coefficients
    are never negative: what would be is left out of the model. Raises FitError for fewer than 12
    samples or non-positive durations.
    """
    if len(samples) < _MIN_SAMPLES:
        raise FitError(f"{len(samples)} samples; a fit needs at least {_MIN_SAMPLES}")
    if any(sample.duration_s <= 0 for sample in samples):
        raise FitError("every duration must be above zero")
    decode_only = [s for s in samples if not s.prefill_tokens]
    mixed = [s for s in samples if s.prefill_tokens]
    apart = min(len(decode_only), len(mixed)) >= _MIN_SAMPLES
    rest = mixed if apart else samples
    small = [s for s in rest if s.prefill_tokens + s.decodes <= split_tokens]
    large = [s for s in rest if s.prefill_tokens + s.decodes > split_tokens]
    both = _regime(rest)
    return LatencyModel(
        _regime(small) if len(small) >= _MIN_SAMPLES else both,
        _regime(large) if len(large) >= _MIN_SAMPLES else both,
        split_tokens,
        _regime(decode_only) if apart else None,
    )


def _regime(samples: Sequence[Sample]) -> Coefficients:
    columns = list(range(5))
    while True:
        solution = _least_squares(samples, columns)
        negative = [column for column in columns[1:] if solution[column] < 0]
        if not negative:
            break
        columns.remove(min(negative, key=lambda column: solution[column]))
    intercept, prefill, decode, decode_context, prefill_context = solution
    return Coefficients(
        intercept_s=intercept,
        total_token_s=0.0,
        prefill_token_s=max(prefill, 1e-9),
        decode_token_s=decode,
        decode_context_token_s=decode_context,
        prefill_context_token_s=prefill_context,
    )


def _row(sample: Sample) -> tuple[float, float, float, float, float]:
    return (
        1.0,
        float(sample.prefill_tokens),
        float(sample.decodes),
        float(sample.decode_context),
        float(sample.prefill_context),
    )


def _least_squares(samples: Sequence[Sample], columns: Sequence[int]) -> list[float]:
    """Weighted by 1 / duration, so that errors count in proportion; 0 for columns left out."""
    scales = [max(max(_row(sample)[column] for sample in samples), 1.0) for column in columns]
    size = len(columns)
    matrix = [[_DAMPING * len(samples) * (i == j) for j in range(size)] for i in range(size)]
    right = [0.0] * size
    for sample in samples:
        row = _row(sample)
        scaled = [row[c] / s / sample.duration_s for c, s in zip(columns, scales, strict=True)]
        for i in range(size):
            right[i] += scaled[i]
            for j in range(size):
                matrix[i][j] += scaled[i] * scaled[j]
    solution = [0.0] * 5
    for column, scale, value in zip(columns, scales, _solve(matrix, right), strict=True):
        solution[column] = value / scale
    return solution


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination with partial pivoting."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            for c in range(i, size + 1):
                rows[r][c] -= factor * rows[i][c]
    values = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][c] * values[c] for c in range(i + 1, size))
        values[i] = (rows[i][size] - known) / rows[i][i]
    return values
