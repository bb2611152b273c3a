"""When a request's tokens are due."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The due times of one request, in seconds of one clock for all requests.

    Interactive (`tbt_s` is set): token n is due at `deadline_s + (n - 1) * tbt_s`
    (arXiv 2503.22562, section 3.1). Batch (`tbt_s` is None): the last token is due at
    `deadline_s`, and so is every other.
    """

    arrival_s: float
    deadline_s: float
    tbt_s: float | None

    def next_token_due_s(self, generated_tokens: int) -> float:
        """When the token that follows `generated_tokens` others is due."""
        return self.deadline_s + generated_tokens * (self.tbt_s or 0.0)
