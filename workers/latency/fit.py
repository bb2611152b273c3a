"""Fitting the latency model to measured iterations.

Least squares of relative errors, by terms that physics allows to be zero and no less. Where
iterations are few or all alike, the model is drawn towards a guess; where a regime of its own does
not pay against the noise, there is none.
"""

import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple, TypeVar

from workers.latency.least_squares import Sums, Vector
from workers.latency.model import Coefficients, LatencyModel, attention_pairs
from workers.latency.prior import solved_near

_MIN_SAMPLES = 12
"""Regimes need this many samples of their own to get their own coefficients."""
_SPLITS = (128, 256, 512, 1024, 2048, 4096)
"""Where the small regime may end, tokens."""
_DEFAULT_SPLIT = 512
_LEAST = 0.1
"""Share of the guess below which no coefficient is expected."""
_TYPICAL_ERRORS = 2.0
"""Samples that are off by more than this many typical errors count less: stalls."""
_ROUNDS = 3
_MIN_TOKEN_S = 1e-9
"""The inverse divides by the cost of a token."""
_SLICE = 16
"""Samples that are looked at in one slice."""

_T = TypeVar("_T")
Slices = Generator[None, None, _T]
"""Work that returns its result after some slices of about 0.1 ms."""


class Sample(NamedTuple):
    """One measured iteration; its parts as in `LatencyModel.iteration_s`."""

    prefill_tokens: int
    prefill_context: int
    decodes: int
    decode_context: int
    duration_s: float
    pairs: float | None = None

    @property
    def batch(self) -> tuple[int, int, int, int, float]:
        """The arguments of `LatencyModel.iteration_s`."""
        pairs = self.pairs
        if pairs is None:
            pairs = attention_pairs(self.prefill_tokens, self.prefill_context)
        return (*self[:4], pairs)


class FitError(ValueError):
    """The samples do not determine a model; the message says what is missing."""


A100_GUESS = Coefficients(
    intercept_s=0.009,
    total_token_s=0.0,
    prefill_token_s=7e-5,
    decode_token_s=4e-5,
    decode_context_token_s=8e-8,
    prefill_context_token_s=8e-8,
    pair_s=3.2e-9,
)
"""Round numbers for Llama-3-8B on an A100, from the operators that Vidur measured (microsoft/vidur
at 7d475133): what the terms of a model weigh beside each other where nothing else is known."""


def fit(samples: Sequence[Sample], guess: Coefficients = A100_GUESS) -> LatencyModel:
    """The model of these iterations; of `guess` only the proportions matter.

    Raises FitError for fewer than 12 samples or non-positive durations.
    """
    slices = fitting(samples, guess)
    while True:
        try:
            next(slices)
        except StopIteration as done:
            model: LatencyModel = done.value
            return model


def fitting(samples: Sequence[Sample], guess: Coefficients = A100_GUESS) -> Slices[LatencyModel]:
    """`fit` for those who have something else to do: a fit takes tens of milliseconds."""
    if len(samples) < _MIN_SAMPLES:
        raise FitError(f"{len(samples)} samples; a fit needs at least {_MIN_SAMPLES}")
    if any(not 0 < sample.duration_s < math.inf for sample in samples):
        raise FitError("every duration must be above zero, and finite")
    known = yield from _scaled_to(samples, guess)
    decode_only = [s for s in samples if not s.prefill_tokens]
    mixed = [s for s in samples if s.prefill_tokens]
    alone = yield from _summed(decode_only)
    parts = yield from _by_size(mixed)
    fitted = solved_near(sum(parts, alone), known)
    # What fits best without a term may be a regime in which there is one.
    shared = [max(value, _LEAST * usual) for value, usual in zip(fitted, known, strict=True)]
    apart = _differ(alone, sum(parts[1:], parts[0]), shared)
    if not apart:
        mixed, parts = list(samples), (yield from _by_size(samples))
    split = yield from _best_split(parts, shared)
    decodes = (yield from _regime(decode_only, shared)) if apart else None
    if split is None:
        both = yield from _regime(mixed, shared)
        return LatencyModel(both, both, _DEFAULT_SPLIT, decodes)
    small = yield from _regime([s for s in mixed if _tokens(s) <= split], shared)
    large = yield from _regime([s for s in mixed if _tokens(s) > split], shared)
    return LatencyModel(small, large, split, decodes)


# ---- regimes


def _differ(one: Sums, other: Sums, shared: Vector) -> bool:
    """Do two sets of samples pay for coefficients of their own?

    By the Bayesian information criterion (Schwarz, Annals of Statistics 6(2), 1978): errors have to
    fall by more than further coefficients take away of any noise.
    """
    if min(one.count, other.count) < _MIN_SAMPLES:
        return False
    both = one + other
    tolerance = 1e-12 * both.count  # there may be no noise at all
    joint, own = _error(both, shared), _error(one, shared) + _error(other, shared)
    gained = both.count * math.log((joint + tolerance) / (own + tolerance))
    return gained > (both.size + 1) * math.log(both.count)


def _best_split(parts: Sequence[Sums], shared: Vector) -> Slices[int | None]:
    """Where two regimes fit best; None when one fits as well."""
    best, least_error = None, math.inf
    for index, split in enumerate(_SPLITS, 1):
        yield
        below, above = sum(parts[1:index], parts[0]), sum(parts[index + 1 :], parts[index])
        if not _differ(below, above, shared):
            continue
        error = _error(below, shared) + _error(above, shared)
        if error < least_error:
            best, least_error = split, error
    return best


def _error(sums: Sums, shared: Vector) -> float:
    return sums.error(solved_near(sums, shared))


def _regime(samples: Sequence[Sample], shared: Vector) -> Slices[Coefficients]:
    return _coefficients((yield from _robust(samples, shared)))


def _robust(samples: Sequence[Sample], shared: Vector) -> Slices[Vector]:
    """Coefficients that a few iterations with stalls in them do not move.

    Huber's weights (Annals of Mathematical Statistics 35(1), 1964), by errors relative to the
    prediction; the typical error is the median one.
    """
    solution = solved_near((yield from _summed(samples)), shared)
    for _ in range(_ROUNDS - 1):
        predicted_s = yield from _predictions(samples, solution)
        errors = [abs(s.duration_s / p - 1) for s, p in zip(samples, predicted_s, strict=True)]
        usual = _TYPICAL_ERRORS * max(1.5 * median(errors), 1e-6)
        sums = Sums(len(shared))
        for index, (sample, p, error) in enumerate(zip(samples, predicted_s, errors, strict=True)):
            if index % _SLICE == 0:
                yield
            counts = min(1.0, usual / error) if error else 1.0
            sums.add(_row(sample), sample.duration_s, math.sqrt(counts) / p)
        solution = solved_near(sums, shared)
    return solution


# ---- samples


def _tokens(sample: Sample) -> int:
    return sample.prefill_tokens + sample.decodes


def _row(sample: Sample) -> tuple[float, ...]:
    prefill_tokens, prefill_context, decodes, decode_context, pairs = sample.batch
    return (1.0, prefill_tokens, decodes, decode_context, prefill_context, pairs)


def _predicted_s(sample: Sample, solution: Vector) -> float:
    total = sum(value * x for value, x in zip(_row(sample), solution, strict=True))
    return max(total, sample.duration_s * 1e-3)  # a stall, or coefficients that are all zero


def _predictions(samples: Sequence[Sample], solution: Vector) -> Slices[Vector]:
    predicted_s = []
    for index, sample in enumerate(samples):
        if index % _SLICE == 0:
            yield
        predicted_s.append(_predicted_s(sample, solution))
    return predicted_s


def _summed(samples: Sequence[Sample]) -> Slices[Sums]:
    """Weighted by 1 / duration, so that errors count in proportion."""
    sums = Sums(6)
    for index, sample in enumerate(samples):
        if index % _SLICE == 0:
            yield
        sums.add(_row(sample), sample.duration_s, 1.0 / sample.duration_s)
    return sums


def _by_size(samples: Sequence[Sample]) -> Slices[list[Sums]]:
    """The sums of samples between neighbouring splits, in order."""
    edges = (-1, *_SPLITS, math.inf)
    parts = []
    for low, high in pairwise(edges):
        parts.append((yield from _summed([s for s in samples if low < _tokens(s) <= high])))
    return parts


def _scaled_to(samples: Sequence[Sample], guess: Coefficients) -> Slices[Vector]:
    """The guess, made as slow or fast as the samples are."""
    vector = [
        guess.intercept_s,
        guess.per_prefill_token_s,
        guess.total_token_s + guess.decode_token_s,
        guess.decode_context_token_s,
        guess.prefill_context_token_s,
        guess.pair_s,
    ]
    predicted_s = yield from _predictions(samples, vector)
    factor = median(s.duration_s / p for s, p in zip(samples, predicted_s, strict=True))
    return [factor * value for value in vector]


def _coefficients(solution: Vector) -> Coefficients:
    intercept, prefill, decode, decode_context, prefill_context, pair = solution
    return Coefficients(
        intercept_s=intercept,
        total_token_s=0.0,
        prefill_token_s=max(prefill, _MIN_TOKEN_S),
        decode_token_s=decode,
        decode_context_token_s=decode_context,
        prefill_context_token_s=prefill_context,
        pair_s=pair,
    )
