"""What work costs, and how much of it the replica gets done."""

from workers.niyama.latency import LatencyModel
from workers.niyama.plan import IterationResult

#: Averaged over this much busy time, seconds.
_MEMORY_S = 60.0
#: Share of the fastest possible prefill that is assumed before anything has run.
_FIRST_SHARE = 0.7


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

    def observe(self, result: IterationResult, decodes: int, decode_context: int) -> None:
        """An iteration that more prompts were waiting for; others say little about the limit."""
        mean_context = decode_context / decodes if decodes else 0.0
        prefill_tokens = sum(chunk.tokens for chunk in result.chunks)
        work = self.work(prefill_tokens, decodes, mean_context)
        weight = min(1.0, result.duration_s / _MEMORY_S)
        self.tokens_per_s += weight * (work / result.duration_s - self.tokens_per_s)
