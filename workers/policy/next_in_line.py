"""How long a prompt takes that is next in line."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from workers.latency.model import LatencyModel
from workers.policy.decodes import DecodeLoad
from workers.policy.turns import Limit

_NONE = DecodeLoad(0, 0)
_NO_LIMIT = Limit(math.inf, 0)


@dataclass(frozen=True, slots=True)
class NextInLine:
    """By what the next iteration could be, and as many like it as the prompt needs."""

    model: LatencyModel
    max_tokens: int
    """Of one iteration."""
    decodes: DecodeLoad = _NONE
    """Alone."""
    mixed: DecodeLoad = _NONE
    """Beside prompts."""
    beside: Limit | None = None
    """What prompts may take beside the decodes; None where they cannot run together."""
    between: Limit = _NO_LIMIT
    """What prompts may take between two turns of the decodes."""
    are_faster_apart: Callable[[int, int], bool] = lambda tokens, context: False
    """A chunk of so many tokens after so many others, and the decodes; as `PrefillBatch` asks."""

    def prompt_s(self, tokens: int) -> float:
        """Until the last of `tokens` is computed, seconds."""
        if not self.decodes.decodes:
            return self._alone_s(tokens, self._fitting(_NO_LIMIT, _NONE, tokens))
        if self.beside is not None:
            chunk = self._fitting(self.beside, self.mixed, tokens)
            if chunk and not self.are_faster_apart(chunk, 0):
                context = (tokens - chunk) // 2
                return tokens / chunk * self.model.iteration_s(chunk, context, *self.mixed)
        # Where nothing fits, decodes have their turn, and the next iteration is the prompts'.
        chunk = self._fitting(self.between, _NONE, tokens) or min(tokens, self.max_tokens)
        turns = math.ceil(tokens / chunk) - 1
        return self._alone_s(tokens, chunk) + turns * self.model.iteration_s(0, 0, *self.decodes)

    def _alone_s(self, tokens: int, chunk: int) -> float:
        return tokens / chunk * self.model.iteration_s(chunk, (tokens - chunk) // 2, 0, 0)

    def _fitting(self, limit: Limit, decodes: DecodeLoad, tokens: int) -> int:
        """Of `tokens`, those that one iteration with these decodes may compute."""
        within = 0
        if limit.time_s > 0:
            within = self.model.max_prefill_tokens(limit.time_s, 0, *decodes)
        return min(max(within, limit.min_tokens), self.max_tokens, tokens)
