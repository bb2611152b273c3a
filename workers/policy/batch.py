"""The prefill part of one iteration while it is being filled."""

from collections.abc import Callable

from workers.latency.model import NO_CHUNKS, LatencyModel
from workers.policy.decodes import NO_DECODES, DecodeLoad
from workers.policy.memory import Memory
from workers.policy.plan import Chunk
from workers.policy.request import Prefill
from workers.policy.turns import Limit


class PrefillBatch:
    """A throwaway object: one iteration's limits in time, tokens and memory.

    Whether decodes take part is settled by its first prompt: where they can, they do unless they
    are faster apart. If they do, a prompt that the engine
    cannot compute beside them has to wait for another iteration.
    """

    def __init__(
        self,
        together: LatencyModel,
        apart: LatencyModel,
        decodes: DecodeLoad,
        memory: Memory,
        *,
        mixed: DecodeLoad,
        beside: Limit | None,
        between: Limit,
        max_tokens: int,
        are_faster_apart: Callable[[int, int], bool] = lambda tokens, context: False,
    ) -> None:
        """`together`: the model of iterations of prompts and decodes, `apart` of either alone.

        What prompts may take `beside` the decodes, None where they cannot run together, and
        `between` two turns of the decodes. `mixed`: the decodes as they are beside prompts.
        `are_faster_apart`: a chunk of so many tokens after so many others, and the decodes.
        """
        self.memory = memory
        self.chunks: list[Chunk] = []
        self.reclaimed: list[str] = []
        """Prompts in progress whose KV this iteration takes."""
        self.full = False
        """A prompt had to be left unfinished, or out, for lack of time: more work was waiting."""
        self.avoided_tokens = 0
        """What prompts could have had beside the decodes, where these are left out because they
        are faster apart."""
        self._together = together
        self._apart = apart
        self._decodes = decodes
        self._mixed = mixed
        self._taking_part = decodes
        """The decodes in this iteration: all, or none."""
        self._beside = beside
        self._between = between
        self._faster_apart = are_faster_apart
        self._max_tokens = max_tokens
        self._held: set[str] = set()
        self._computed = NO_CHUNKS
        self._asked: tuple[str, int] = ("", 0)
        """The prompt that is about to be taken, and the room that it has been found to have."""

    @property
    def is_alone(self) -> bool:
        """The next prompt would have the engine for itself."""
        return not self._decodes.decodes and not self.chunks

    def admits(self, prefill: Prefill) -> bool:
        """Is there memory for the whole of a prompt that has no KV yet?"""
        return self.memory.admits(prefill, alone=self.is_alone)

    def has_time_for(self, prefill: Prefill) -> bool:
        """Could the next tokens be this prompt's, if there is memory?"""
        self._asked = (prefill.request_id, self._room(prefill))
        return self._asked[1] > 0

    @property
    def leaves_decodes_out(self) -> bool:
        """For whatever reason, there are prompts and none of the decodes."""
        return bool(self.chunks) and self._decodes.decodes > 0 and not self._taking_part.decodes

    def holds(self, request_id: str) -> bool:
        return request_id in self._held

    def reclaim_kv(self, victim: Prefill) -> None:
        """A prompt in progress loses its KV to this iteration."""
        self.memory = self.memory.after_reclaim(victim)
        self.reclaimed.append(victim.request_id)

    def take(self, prefill: Prefill) -> bool:
        """Add as much of a prompt as fits; false, and `full`, when nothing of it does."""
        free, admissible = self.memory
        asked, room = self._asked
        if asked != prefill.request_id:
            room = self._room(prefill)
        self._asked = ("", 0)
        cached = 0 if prefill.has_kv else prefill.missing_kv_tokens - prefill.remaining_tokens
        tokens = min(room, prefill.remaining_tokens, free - cached)
        if tokens <= 0:
            self.full = True
            return False
        if not prefill.has_kv:
            admissible -= prefill.missing_kv_tokens
        self.memory = Memory(free - cached - tokens, admissible)
        if not self.chunks:
            self._taking_part = self._taking_part_with(prefill)
            if self._mixes(prefill) and not self._taking_part.decodes:
                self.avoided_tokens = self._tokens_beside(prefill)
        self.chunks.append(Chunk(prefill.request_id, tokens))
        self._held.add(prefill.request_id)
        self._computed = self._computed.beside(tokens, prefill.context_tokens)
        self.full = tokens < prefill.remaining_tokens
        return True

    def predicted_s(self) -> float:
        """Duration by the model, seconds."""
        tokens, context, pairs = self._computed
        model = self._model(self._taking_part if self.chunks else NO_DECODES)
        return model.iteration_s(tokens, context, *self._taking_part, pairs)

    def _model(self, beside: DecodeLoad) -> LatencyModel:
        """Of an iteration of prompts and these decodes."""
        return self._together if beside.decodes else self._apart

    def _taking_part_with(self, prefill: Prefill) -> DecodeLoad:
        if self.chunks:
            return self._taking_part
        if self._mixes(prefill) and not self._are_faster_apart(prefill):
            return self._mixed
        return NO_DECODES

    def _mixes(self, prefill: Prefill) -> bool:
        """There are decodes, and the engine can compute the prompt beside them now."""
        can = self._beside is not None and prefill.request.prompt_mixes
        return can and self._mixed.decodes > 0

    def _are_faster_apart(self, prefill: Prefill) -> bool:
        """By the tokens that the first prompt would have beside the decodes."""
        return self._faster_apart(self._tokens_beside(prefill), prefill.context_tokens)

    def _tokens_beside(self, prefill: Prefill) -> int:
        room = self._tokens_within(self._beside or self._between, prefill, self._mixed)
        return min(prefill.remaining_tokens, max(1, room))

    def _room(self, prefill: Prefill) -> int:
        """Prompt tokens that still fit, of this prompt."""
        decodes = self._taking_part_with(prefill)
        if decodes.decodes and not prefill.request.prompt_mixes:
            return 0
        limit = self._beside if decodes.decodes else self._between
        assert limit is not None, "decodes take part, and must not"
        return self._tokens_within(limit, prefill, decodes)

    def _tokens_within(self, limit: Limit, prefill: Prefill, decodes: DecodeLoad) -> int:
        computed = self._computed
        within_limit = computed.tokens
        if limit.time_s > 0:
            within_limit += self._model(decodes).max_prefill_tokens(
                limit.time_s, prefill.context_tokens, *decodes, computed
            )
        return min(max(within_limit, limit.min_tokens), self._max_tokens) - computed.tokens
