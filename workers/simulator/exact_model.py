"""The model that a scheduler would need to be right about a law; for comparison only."""

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from workers.latency.fit import Sample, fit
from workers.latency.model import NO_CHUNKS, Chunks, LatencyModel, attention_pairs
from workers.simulator.laws import Form, Work

_MOST_TOKENS = 16_384
"""No chunk is longer."""


@dataclass(frozen=True, slots=True)
class _ExactModel(LatencyModel):
    """Times are a law's; the coefficients, from which costs are told, are a fit to it."""

    form: Form = lambda work: math.nan
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """See `corrected`."""

    def iteration_s(
        self,
        prefill_tokens: int,
        prefill_context: int,
        decodes: int,
        decode_context: int,
        pairs: float | None = None,
    ) -> float:
        if pairs is None:
            pairs = attention_pairs(prefill_tokens, prefill_context)
        prompts = Chunks(prefill_tokens, prefill_context, pairs)
        factor = self.factors[self.regime(prefill_tokens, decodes)]
        return factor * self.form(Work(prompts, decodes, decode_context))

    def max_prefill_tokens(
        self,
        limit_s: float,
        context: int,
        decodes: int,
        decode_context: int,
        beside: Chunks = NO_CHUNKS,
    ) -> int:
        """By bisection: a law has no inverse."""
        if limit_s == math.inf:
            return sys.maxsize
        fits, too_many = 0, _MOST_TOKENS
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            tokens, contexts, pairs = beside.beside(middle, context)
            if self.iteration_s(tokens, contexts, decodes, decode_context, pairs) <= limit_s:
                fits = middle
            else:
                too_many = middle
        return fits

    def corrected(self, decodes: float, small: float, large: float) -> LatencyModel:
        biases = zip(self.factors, (decodes, small, large), strict=True)
        first, second, third = (factor * bias for factor, bias in biases)
        return replace(self, factors=(first, second, third))


def exact_model(form: Form) -> LatencyModel:
    fitted = fit(list(_samples(form)))
    return _ExactModel(
        fitted.small, fitted.large, fitted.split_tokens, fitted.decode_only, form=form
    )


def _samples(form: Form) -> Iterator[Sample]:
    """Undisturbed iterations of many kinds."""
    sizes, decodes, contexts = (0, 64, 128, 256, 512, 1024, 2048), (0, 8, 32, 64), (0, 2_000)
    for tokens, count, context in itertools.product(sizes, decodes, contexts):
        if tokens or count:
            prompts = NO_CHUNKS.beside(tokens, context) if tokens else NO_CHUNKS
            work = Work(prompts, count, count * 1_500)
            yield Sample(
                tokens, prompts.context, count, work.decode_context, form(work), prompts.pairs
            )
