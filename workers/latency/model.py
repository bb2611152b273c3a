"""How long an iteration takes: linear in tokens, contexts and attention, in two or three regimes.

Small batches are bound by reading the weights, large ones by arithmetic, so each side of a token
count has its own coefficients, as in the published Niyama artifact (arXiv 2503.22562). So may
iterations without a prompt in them, which engines run by another path. Attention compares every
prompt token with all tokens before it, so its time grows with tokens times context.
"""

import math
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

_WORTH_ALTERNATING = 1.02
"""Alternating batches have to carry this much more than equal ones."""
_TYPICAL_PREFILL_TOKENS = 2048
"""Of the batch by which the cost of a prompt token is told."""


def attention_pairs(tokens: int, context: int) -> float:
    """Pairs of tokens that attention compares, for a chunk of `tokens` after `context` others."""
    return tokens * (context + tokens / 2)


class Chunks(NamedTuple):
    """The prompts' part of an iteration."""

    tokens: int
    context: int
    """Sum over the prompts of the tokens computed before this iteration."""
    pairs: float
    """Sum of their `attention_pairs`."""

    def beside(self, tokens: int, context: int) -> "Chunks":
        """With another chunk, of `tokens` after `context` others."""
        pairs = self.pairs + attention_pairs(tokens, context)
        return Chunks(self.tokens + tokens, self.context + context, pairs)


NO_CHUNKS = Chunks(0, 0, 0.0)


class Regime(IntEnum):
    """Iterations whose durations follow the same coefficients."""

    DECODES = 0
    """Decodes only."""
    SMALL = 1
    LARGE = 2


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds, and seconds per token or pair of tokens, of one regime."""

    intercept_s: float
    total_token_s: float
    prefill_token_s: float
    decode_token_s: float
    decode_context_token_s: float
    prefill_context_token_s: float
    pair_s: float = 0.0
    """See `attention_pairs`."""

    def fixed_s(self, decodes: int, decode_context: int, prefill_context: int) -> float:
        """The part of an iteration that does not depend on the prefill tokens in it."""
        return (
            self.intercept_s
            + (self.total_token_s + self.decode_token_s) * decodes
            + self.decode_context_token_s * decode_context
            + self.prefill_context_token_s * prefill_context
        )

    def prefill_s(self, tokens: int, pairs: float) -> float:
        """The rest: what the prefill tokens add."""
        return self.per_prefill_token_s * tokens + self.pair_s * pairs

    def chunk_tokens(self, left_s: float, context: int) -> int:
        """The inverse: tokens after `context` others that are computed in `left_s`, at least 0."""
        if left_s <= 0:
            return 0
        slope_s = self.per_prefill_token_s + self.pair_s * context
        root_s = math.sqrt(slope_s * slope_s + 2 * self.pair_s * left_s)
        return int(2 * left_s / (slope_s + root_s))

    def scaled(self, factor: float) -> "Coefficients":
        return Coefficients(*(factor * getattr(self, name) for name in self.__slots__))

    @property
    def per_prefill_token_s(self) -> float:
        return self.total_token_s + self.prefill_token_s


@dataclass(frozen=True, slots=True)
class LatencyModel:
    small: Coefficients
    large: Coefficients
    split_tokens: int
    """Batches of at most this many tokens (prefill and decode) are in the small regime."""
    decode_only: Coefficients | None = None
    """Iterations of decodes only; None: as other batches of their size."""

    def regime(self, prefill_tokens: int, decodes: int) -> Regime:
        if not prefill_tokens and self.decode_only is not None:
            return Regime.DECODES
        return Regime.SMALL if prefill_tokens + decodes <= self.split_tokens else Regime.LARGE

    def iteration_s(
        self,
        prefill_tokens: int,
        prefill_context: int,
        decodes: int,
        decode_context: int,
        pairs: float | None = None,
    ) -> float:
        """Duration of one iteration.

        `prefill_context` and `pairs` are those of `Chunks`; without `pairs`, the prefill tokens
        are of one prompt. `decode_context` sums the context lengths of the decodes.
        """
        if pairs is None:
            pairs = attention_pairs(prefill_tokens, prefill_context)
        regime = self._coefficients(self.regime(prefill_tokens, decodes))
        fixed_s = regime.fixed_s(decodes, decode_context, prefill_context)
        return fixed_s + regime.prefill_s(prefill_tokens, pairs)

    def max_prefill_tokens(
        self,
        limit_s: float,
        context: int,
        decodes: int,
        decode_context: int,
        beside: Chunks = NO_CHUNKS,
    ) -> int:
        """Largest chunk after `context` tokens with which the iteration stays within `limit_s`.

        The iteration has `beside` in it already. At least 0.
        """
        if limit_s == math.inf:
            return sys.maxsize
        least_large = self.split_tokens + 1 - decodes - beside.tokens
        for regime, at_least in ((self.large, least_large), (self.small, 0)):
            fixed_s = regime.fixed_s(decodes, decode_context, beside.context + context)
            left_s = limit_s - fixed_s - regime.prefill_s(beside.tokens, beside.pairs)
            tokens = regime.chunk_tokens(left_s, context)
            if left_s >= 0 and tokens >= at_least:
                return tokens if regime is self.large else max(0, min(tokens, least_large - 1))
        return 0

    @property
    def prompt_token_s(self) -> float:
        """What a prompt token costs in a large batch of nothing else, its fixed part shared out.

        A mean and not a slope: a slope that was fitted can be anything between nothing and this.
        """
        return self.iteration_s(_TYPICAL_PREFILL_TOKENS, 0, 0, 0) / _TYPICAL_PREFILL_TOKENS

    def large_step_s(
        self,
        mean_s: float,
        prefill_context: int,
        decodes: int,
        decode_context: int,
        *,
        max_tokens: int,
    ) -> float | None:
        """Duration of the smallest large batch, where alternating beats equal batches.

        Iterations that last `mean_s` on average can be equal, or the smallest large batches with
        decodes alone between them. The latter carry more where the cost per token falls at the
        border of the regimes. None where equal ones carry as much, or `mean_s` is a large batch.
        """
        tokens = self.split_tokens + 1 - decodes
        step_s = self.iteration_s(tokens, prefill_context, decodes, decode_context)
        alone_s = self.iteration_s(0, 0, decodes, decode_context)
        if not 0 < tokens <= max_tokens or not alone_s < mean_s < step_s:
            return None
        equal = self.max_prefill_tokens(mean_s, prefill_context, decodes, decode_context)
        alternating = tokens * (mean_s - alone_s) / (step_s - alone_s)
        if alternating <= _WORTH_ALTERNATING * equal:
            return None
        last_token_s = self.large.per_prefill_token_s + self.large.pair_s * prefill_context
        return step_s + last_token_s / 2  # rounding must not lose the last token

    def scaled(self, factor: float) -> "LatencyModel":
        """The same model with every time multiplied by `factor`."""
        return self.corrected(factor, factor, factor)

    def corrected(self, decodes: float, small: float, large: float) -> "LatencyModel":
        """The same model with each regime's times multiplied by its own factor."""
        decode_only = self.decode_only.scaled(decodes) if self.decode_only is not None else None
        return LatencyModel(
            self.small.scaled(small), self.large.scaled(large), self.split_tokens, decode_only
        )

    def _coefficients(self, regime: Regime) -> Coefficients:
        if regime is Regime.DECODES and self.decode_only is not None:
            return self.decode_only
        return self.large if regime is Regime.LARGE else self.small
