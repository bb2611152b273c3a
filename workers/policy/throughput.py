"""What work costs, and how much of it the replica gets done."""

from workers.latency.fit import Sample
from workers.latency.model import Coefficients, LatencyModel

_MEMORY_S = 60.0
"""The busy time that the average covers."""
_FIRST_SHARE = 0.7
"""Share of the fastest possible prefill that is assumed before anything has run."""
_CONTEXT_TOKENS = 1_000
"""Of the decode by which ways to run it are compared."""


class Throughput:
    """Work in prefill-equivalent tokens: a decode token counts what it costs in prefill tokens.

    Learned are the tokens of each kind per second; the latency model only says what they are worth
    beside each other. So what is learned outlives the model.
    """

    def __init__(self, model: LatencyModel) -> None:
        self._prefill_tokens = 0.0
        self._decode_tokens = 0.0
        self._context_tokens = 0.0
        """Computed per second; the last, the contexts of the decode tokens."""
        self._unknown = 1.0
        """Share of the average that is still the assumption."""
        self.tokens_per_s = 0.0
        """Prefill-equivalent tokens per second of a busy replica."""
        self.use(model)

    def use(self, model: LatencyModel) -> None:
        """Continue with the costs of another model."""
        unit_s, decodes = _prompt_token_s(model), _cheaper_decodes(model)
        self._assumed_tokens_per_s = _FIRST_SHARE / model.prompt_token_s
        self._decode_token_work = (decodes.total_token_s + decodes.decode_token_s) / unit_s
        self._context_token_work = decodes.decode_context_token_s / unit_s
        self._add_up()

    def work(self, prefill_tokens: float, decode_tokens: float, context_tokens: float) -> float:
        """Prefill-equivalent tokens of a request that decodes with this mean context."""
        return self._total(prefill_tokens, decode_tokens, decode_tokens * context_tokens)

    def observe(self, ran: Sample) -> None:
        """An iteration that more prompts were waiting for; others say little about the limit."""
        weight = min(1.0, ran.duration_s / _MEMORY_S)
        kept, per_s = 1 - weight, weight / ran.duration_s
        self._prefill_tokens = kept * self._prefill_tokens + per_s * ran.prefill_tokens
        self._decode_tokens = kept * self._decode_tokens + per_s * ran.decodes
        self._context_tokens = kept * self._context_tokens + per_s * ran.decode_context
        self._unknown *= kept
        self._add_up()

    def _add_up(self) -> None:
        learned = self._total(self._prefill_tokens, self._decode_tokens, self._context_tokens)
        self.tokens_per_s = self._unknown * self._assumed_tokens_per_s + learned

    def _total(self, prefill_tokens: float, decode_tokens: float, context_tokens: float) -> float:
        decoding = decode_tokens * self._decode_token_work
        return prefill_tokens + decoding + context_tokens * self._context_token_work


def _cheaper_decodes(model: LatencyModel) -> Coefficients:
    """What decodes cost beside prompts, or alone: where that is less they are kept apart."""
    ways = (model.small, model.decode_only or model.small)
    return min(
        ways,
        key=lambda way: (
            way.total_token_s + way.decode_token_s + _CONTEXT_TOKENS * way.decode_context_token_s
        ),
    )


def _prompt_token_s(model: LatencyModel) -> float:
    """What one more prompt token costs beside decodes, in a small batch.

    That may be next to nothing, of a batch that is bound by reading the weights or of a fit that
    could not tell; but prompts have to be computed, so it is half of the mean cost at least.
    """
    return max(model.small.per_prefill_token_s, model.prompt_token_s / 2)
