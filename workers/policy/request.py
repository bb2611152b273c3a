"""What the policy knows about one request, and how far the engine has brought it."""

from dataclasses import dataclass

from workers.policy.qos import RequestQos


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it enters the scheduler. All times are seconds on one monotonic clock."""

    request_id: str
    qos: RequestQos
    prompt_tokens: int
    #: Prompt tokens that the engine already holds in its prefix cache.
    cached_tokens: int = 0
    max_output_tokens: int | None = None


class Prefill:
    """Progress of one request whose prompt is not computed yet (waiting or in progress)."""

    __slots__ = ("computed_tokens", "due_s", "generated_tokens", "remaining_tokens", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        #: Tokens whose KV the engine holds; a cached prefix counts once the request has started.
        self.computed_tokens = 0
        self.remaining_tokens = max(1, request.prompt_tokens - request.cached_tokens)
        #: When the prompt has to be computed; the policy sets it when it queues the request.
        self.due_s = request.qos.deadline_s
        #: Tokens already delivered, when the engine took the KV of a decode back.
        self.generated_tokens = 0

    @property
    def started(self) -> bool:
        return self.computed_tokens > 0

    @property
    def missing_kv_tokens(self) -> int:
        """KV that the prompt takes until it is complete; a cached prefix has to stay as well."""
        return self.request.prompt_tokens + self.generated_tokens - self.computed_tokens

    def advance(self, tokens: int) -> bool:
        """Account for one computed chunk; true when the prompt is complete."""
        if not self.computed_tokens:
            self.computed_tokens = self.request.prompt_tokens + self.generated_tokens
            self.computed_tokens -= self.remaining_tokens
        self.computed_tokens += tokens
        self.remaining_tokens -= tokens
        return self.remaining_tokens <= 0

    def correct(self, held_tokens: int, remaining_tokens: int) -> None:
        """Take over the engine's count: tokens it holds or has cached, and tokens to compute."""
        if self.started:
            self.computed_tokens = max(1, held_tokens)
        self.remaining_tokens = remaining_tokens

    def lose_kv(self) -> None:
        """The engine took the KV back: everything has to be computed again."""
        self.computed_tokens = 0
        self.remaining_tokens = self.request.prompt_tokens + self.generated_tokens
