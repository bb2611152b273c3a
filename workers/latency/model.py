"""How long an iteration takes: linear in its tokens and contexts, in two or three regimes.

The form is the one the published Niyama artifact uses (arXiv 2503.22562): small batches are
bound by reading the weights, large ones by arithmetic, so each side of a token count has its own
coefficients. So may iterations without a prompt in them, which engines run by another path.
"""

import math
import sys
from dataclasses import dataclass

_WORTH_ALTERNATING = 1.02
"""Alternating batches have to carry this much more than equal ones."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds, and seconds per token, of one regime."""

    intercept_s: float
    total_token_s: float
    prefill_token_s: float
    decode_token_s: float
    decode_context_token_s: float
    prefill_context_token_s: float

    def fixed_s(self, decodes: int, decode_context: int, prefill_context: int) -> float:
        """The part of an iteration that does not depend on the prefill tokens in it."""
        return (
            self.intercept_s
            + (self.total_token_s + self.decode_token_s) * decodes
            + self.decode_context_token_s * decode_context
            + self.prefill_context_token_s * prefill_context
        )

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
    """Iterations of decodes only; None: as the small regime says."""

    def iteration_s(
        self, prefill_tokens: int, prefill_context: int, decodes: int, decode_context: int
    ) -> float:
        """Duration of one iteration.

        `prefill_context` sums, over the prompts in the batch, the tokens computed before this
        chunk; `decode_context` sums the context lengths of the decodes.
        """
        if not prefill_tokens and self.decode_only is not None:
            return self.decode_only.fixed_s(decodes, decode_context, prefill_context)
        regime = self.small if prefill_tokens + decodes <= self.split_tokens else self.large
        fixed_s = regime.fixed_s(decodes, decode_context, prefill_context)
        return fixed_s + regime.per_prefill_token_s * prefill_tokens

    def max_prefill_tokens(
        self, limit_s: float, prefill_context: int, decodes: int, decode_context: int
    ) -> int:
        """Most prefill tokens for which the iteration stays within `limit_s`; at least 0."""
        if limit_s == math.inf:
            return sys.maxsize
        for regime, at_least in ((self.large, self.split_tokens + 1 - decodes), (self.small, 0)):
            left_s = limit_s - regime.fixed_s(decodes, decode_context, prefill_context)
            tokens = int(left_s / regime.per_prefill_token_s)
            if tokens >= at_least:
                return tokens if regime is self.large else min(tokens, self._small_room(decodes))
        return 0

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
        return step_s + self.large.per_prefill_token_s / 2  # rounding must not lose the last token

    def scaled(self, factor: float) -> "LatencyModel":
        """The same model with every time multiplied by `factor`."""
        decode_only = self.decode_only.scaled(factor) if self.decode_only is not None else None
        small, large = self.small.scaled(factor), self.large.scaled(factor)
        return LatencyModel(small, large, self.split_tokens, decode_only)

    def _small_room(self, decodes: int) -> int:
        return max(0, self.split_tokens - decodes)
