"""The prefill part of one iteration while it is being filled."""

from workers.latency.model import LatencyModel
from workers.policy.plan import Chunk
from workers.policy.request import Prefill


class PrefillBatch:
    """A throwaway object: one iteration's limits in time, tokens and memory."""

    def __init__(
        self,
        model: LatencyModel,
        *,
        limit_s: float,
        min_tokens: int,
        max_tokens: int,
        decodes: int,
        decode_context: int,
        free_kv_tokens: int,
        admissible_kv_tokens: int,
    ) -> None:
        self.chunks: list[Chunk] = []
        #: A prompt had to be left unfinished, or out, for lack of time: more work was waiting.
        self.full = False
        self._model = model
        self._limit_s = limit_s
        self._min_tokens = min_tokens
        self._max_tokens = max_tokens
        self._decodes = decodes
        self._decode_context = decode_context
        #: After every decode has grown by a token; negative when there is no room for that.
        self.free_kv_tokens = free_kv_tokens
        self._admissible_kv_tokens = admissible_kv_tokens
        self._held: set[str] = set()
        self._tokens = 0
        self._context = 0

    def admits(self, prefill: Prefill) -> bool:
        """Is there memory for the whole of a prompt that has not begun?"""
        if prefill.missing_kv_tokens <= self._admissible_kv_tokens:
            return True
        # Alone in the engine, a prompt may have all memory: what was kept for growth is not needed.
        alone = not self._decodes and not self.chunks
        return alone and prefill.missing_kv_tokens <= self.free_kv_tokens

    def holds(self, request_id: str) -> bool:
        return request_id in self._held

    def give_back(self, prefill: Prefill) -> None:
        """A prompt in progress gives its KV back, and what was kept for the rest of it."""
        self.free_kv_tokens += prefill.computed_tokens
        self._admissible_kv_tokens += prefill.computed_tokens + prefill.remaining_tokens

    def take(self, prefill: Prefill) -> bool:
        """Add as much of a prompt as fits; false when nothing more fits after it."""
        context = prefill.computed_tokens or prefill.request.cached_tokens
        room = self._room(self._context + context)
        cached = 0 if prefill.started else prefill.missing_kv_tokens - prefill.remaining_tokens
        tokens = min(room, prefill.remaining_tokens, self.free_kv_tokens - cached)
        if tokens <= 0:
            self.full = True
            return False
        if not prefill.started:
            self._admissible_kv_tokens -= prefill.missing_kv_tokens
        self.chunks.append(Chunk(prefill.request.request_id, tokens))
        self._held.add(prefill.request.request_id)
        self._tokens += tokens
        self._context += context
        self.free_kv_tokens -= cached + tokens
        self.full = tokens < prefill.remaining_tokens
        return not self.full

    def predicted_s(self) -> float:
        """Duration by the model as it is, without calibration."""
        return self._model.iteration_s(
            self._tokens, self._context, self._decodes, self._decode_context
        )

    def _room(self, context: int) -> int:
        most = self._model.max_prefill_tokens(
            self._limit_s, context, self._decodes, self._decode_context
        )
        return min(max(most, self._min_tokens), self._max_tokens) - self._tokens
