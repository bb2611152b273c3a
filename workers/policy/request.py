"""What the policy knows about one request, and how far the engine has brought it."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from workers.policy.qos import RequestQos


class PrefixKey(NamedTuple):
    """Equal to another prompt's where the whole text up to there is."""

    tokens: int
    """The length of the prefix."""
    key: int


class Share(NamedTuple):
    """What a call has of its task's time. Absolute times, no later than the task's deadline."""

    due_s: float
    """When it should be answered, so that there is slack for the calls that follow."""
    latest_s: float
    """When it has to be: later is too late for the calls that are known to follow."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it enters the scheduler. All times are seconds on one clock."""

    request_id: str
    qos: RequestQos
    prompt_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that the engine already holds in its prefix cache."""
    prefix_keys: tuple[PrefixKey, ...] = ()
    """Of prefixes that it may share with others, the shortest first; none is all of the prompt."""
    max_output_tokens: int | None = None
    prompt_mixes: bool = True
    """The engine can compute its prompt in one iteration with running decodes."""
    decode_mixes: bool = True
    """The engine can compute prompts in one iteration with its decode."""

    share: Share | None = None
    """A call's share of its task's time; None: all of it."""

    @property
    def answer_due_s(self) -> float:
        """When an answer that has to be complete should be."""
        return self.qos.deadline_s if self.share is None else self.share.due_s

    @property
    def answer_latest_s(self) -> float:
        """When its deadline is missed if it is not; no sooner than `answer_due_s`."""
        return self.qos.deadline_s if self.share is None else self.share.latest_s

    def arrived_by(self, now_s: float) -> Self:
        """The same request, which arrived at `now_s` at the latest."""
        qos = self.qos.arrived_by(now_s)
        return self if qos is self.qos else replace(self, qos=qos)


class Prefill:
    """Progress of one request whose prompt is not computed yet (waiting or in progress)."""

    __slots__ = (
        "computed_tokens",
        "due_s",
        "elsewhere_tokens",
        "generated_tokens",
        "is_overdue",
        "latest_s",
        "remaining_tokens",
        "request",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.computed_tokens = 0
        """Tokens whose KV the engine holds; a cached prefix counts after the first chunk."""
        self.remaining_tokens = max(1, request.prompt_tokens - request.cached_tokens)
        self.elsewhere_tokens = 0
        """Those of them that another prompt computes, or has computed; see `Prefixes`."""
        self.due_s = request.qos.deadline_s
        """When the prompt should be computed; set when the request is queued."""
        self.latest_s = self.due_s
        """When its deadline is as good as missed if it is not; no sooner than `due_s`."""
        self.is_overdue = False
        """It can no longer be met, and yields to what can; the backlog decides it."""
        self.generated_tokens = 0
        """Tokens already delivered, when the engine retracted a decode."""

    @classmethod
    def of_retracted(cls, request: Request, generated_tokens: int) -> Self:
        """A decode that lost its KV: a prompt again, longer by what it has generated."""
        prefill = cls(request)
        prefill.generated_tokens = generated_tokens
        prefill.lose_kv()
        return prefill

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def is_being_read(self) -> bool:
        """A part of its answer is out, and gaps in the rest are noticed.

        It does not yield, however late: what it costs to resume was admitted once, and is bounded
        by what the decodes held.
        """
        return self.generated_tokens > 0 and self.request.qos.limits_gaps

    @property
    def has_kv(self) -> bool:
        """The engine has computed a part of the prompt."""
        return self.computed_tokens > 0

    @property
    def context_tokens(self) -> int:
        """Tokens that the next chunk attends to, beside its own: computed, or in the cache."""
        return self.request.prompt_tokens + self.generated_tokens - self.remaining_tokens

    @property
    def own_tokens(self) -> int:
        """What it adds to the work that there is."""
        return self.remaining_tokens - self.elsewhere_tokens

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
        if self.has_kv:
            self.computed_tokens = max(1, held_tokens)
        self.remaining_tokens = remaining_tokens

    def found_cached(self, tokens: int) -> None:
        """So much of it, which has no KV of its own yet, is in the prefix cache."""
        self.request = replace(self.request, cached_tokens=tokens)
        in_all = self.request.prompt_tokens + self.generated_tokens
        self.remaining_tokens = max(1, in_all - tokens)

    def lose_kv(self) -> None:
        """Its KV was retracted or reclaimed: everything has to be computed again."""
        self.computed_tokens = 0
        self.remaining_tokens = self.request.prompt_tokens + self.generated_tokens
