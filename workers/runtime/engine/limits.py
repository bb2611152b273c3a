"""How long requests can be."""

from workers.engine.port import PromptTooLong


class TokenLimits:
    """The bounds of one engine, all in tokens."""

    def __init__(self, context_tokens: int, kv_tokens: int, max_prompt_tokens: int) -> None:
        self.context_tokens = context_tokens
        self.kv_tokens = kv_tokens
        # The scheduler refuses a prompt as long as its limit, and keeps two tokens for itself.
        self._prompt_tokens = min(max_prompt_tokens - 1, context_tokens - 2)
        self._total_tokens = min(context_tokens, kv_tokens) - 2

    def max_tokens(self, prompt_tokens: int, wanted_tokens: int | None) -> int:
        """What a request can generate at most. Raises PromptTooLong."""
        room_tokens = self._total_tokens - prompt_tokens
        if prompt_tokens > self._prompt_tokens or room_tokens < 1:
            raise PromptTooLong(
                f"the prompt has {prompt_tokens} tokens; this worker takes at most "
                f"{min(self._prompt_tokens, self._total_tokens - 1)} "
                f"(context {self.context_tokens}, KV cache {self.kv_tokens})"
            )
        return room_tokens if wanted_tokens is None else min(wanted_tokens, room_tokens)
