"""The prefill part of one iteration while it is being filled."""

from workers.latency.model import LatencyModel
from workers.policy.decodes import DecodeLoad
from workers.policy.memory import Memory
from workers.policy.plan import Chunk
from workers.policy.request import Prefill


class PrefillBatch:
    """A throwaway object: one iteration's limits in time, tokens and memory."""

    def __init__(
        self,
        model: LatencyModel,
        decodes: DecodeLoad,
        memory: Memory,
        *,
        limit_s: float,
        min_tokens: int,
        max_tokens: int,
    ) -> None:
        """`limit_s` is in the model's seconds; `min_tokens` go in even when it leaves no time."""
        self.memory = memory
        self.chunks: list[Chunk] = []
        self.reclaimed: list[str] = []
        """Prompts in progress whose KV this iteration takes."""
        self.full = False
        """A prompt had to be left unfinished, or out, for lack of time: more work was waiting."""
        self._model = model
        self._decodes = decodes
        self._limit_s = limit_s
        self._min_tokens = min_tokens
        self._max_tokens = max_tokens
        self._held: set[str] = set()
        self._tokens = 0
        self._context = 0

    @property
    def is_alone(self) -> bool:
        """The next prompt would have the engine for itself."""
        return not self._decodes.decodes and not self.chunks

    def admits(self, prefill: Prefill) -> bool:
        """Is there memory for the whole of a prompt that has no KV yet?"""
        return self.memory.admits(prefill, alone=self.is_alone)

    def holds(self, request_id: str) -> bool:
        return request_id in self._held

    def reclaim_kv(self, victim: Prefill) -> None:
        """A prompt in progress loses its KV to this iteration."""
        self.memory = self.memory.after_reclaim(victim)
        self.reclaimed.append(victim.request_id)

    def take(self, prefill: Prefill) -> bool:
        """Add as much of a prompt as fits; false, and `full`, when nothing of it does."""
        free, admissible = self.memory
        context = self._context + prefill.context_tokens
        room = self._room(context)
        cached = 0 if prefill.has_kv else prefill.missing_kv_tokens - prefill.remaining_tokens
        tokens = min(room, prefill.remaining_tokens, free - cached)
        if tokens <= 0:
            self.full = True
            return False
        if not prefill.has_kv:
            admissible -= prefill.missing_kv_tokens
        self.memory = Memory(free - cached - tokens, admissible)
        self.chunks.append(Chunk(prefill.request_id, tokens))
        self._held.add(prefill.request_id)
        self._tokens += tokens
        self._context = context
        self.full = tokens < prefill.remaining_tokens
        return True

    def predicted_s(self) -> float:
        """Duration by the uncorrected model."""
        return self._model.iteration_s(self._tokens, self._context, *self._decodes)

    def _room(self, context: int) -> int:
        within_limit = self._model.max_prefill_tokens(self._limit_s, context, *self._decodes)
        return min(max(within_limit, self._min_tokens), self._max_tokens) - self._tokens
