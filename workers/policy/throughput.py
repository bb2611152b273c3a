"""What work costs, and how much of it the replica gets done."""

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel

_MEMORY_S = 60.0
"""The busy time that the average covers."""
_FIRST_SHARE = 0.7
"""Share of the fastest possible prefill that is assumed before anything has run."""


class Throughput:
    """Work in prefill-equivalent tokens: a decode token counts what it costs in prefill tokens."""

    def __init__(self, model: LatencyModel) -> None:
        self.tokens_per_s = _FIRST_SHARE / model.large.per_prefill_token_s
        self._model = model

    def work(self, prefill_tokens: float, decode_tokens: float, context_tokens: float) -> float:
        """Prefill-equivalent tokens of a request, or of an iteration with this mean context."""
        small = self._model.small
        token_s = small.total_token_s + small.decode_token_s
        token_s += small.decode_context_token_s * context_tokens
        return prefill_tokens + decode_tokens * token_s / small.per_prefill_token_s

    def observe(self, ran: Sample) -> None:
        """An iteration that more prompts were waiting for; others say little about the limit."""
        mean_context = ran.decode_context / ran.decodes if ran.decodes else 0.0
        work = self.work(ran.prefill_tokens, ran.decodes, mean_context)
        weight = min(1.0, ran.duration_s / _MEMORY_S)
        self.tokens_per_s += weight * (work / ran.duration_s - self.tokens_per_s)
