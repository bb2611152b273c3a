"""How many tokens a decode has of one iteration: more than one where drafts are accepted."""

_MEMORY_STEPS = 1_000.0
"""Steps of decodes that the average of all covers."""
_WEIGHT_STEPS = 8.0
"""What all of them say counts as so many steps of a decode of its own."""


class StepTokens:
    """Tokens per step, of all decodes and of one; 1 until a draft has been accepted."""

    def __init__(self) -> None:
        self.mean = 1.0
        """Of all decodes."""
        self._steps = 0.0
        """That it covers."""

    def observe(self, steps: int, tokens: int) -> None:
        """So many steps of decodes gave so many tokens, their own one included."""
        if steps:
            self._steps = min(self._steps + steps, max(_MEMORY_STEPS, steps))
            self.mean += steps / self._steps * (tokens / steps - self.mean)

    def of(self, steps: int, tokens: int) -> float:
        """What to expect of each further step of a decode, whose steps gave so many tokens."""
        return (tokens + _WEIGHT_STEPS * self.mean) / (steps + _WEIGHT_STEPS)
