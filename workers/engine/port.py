"""The port between a worker and whatever generates tokens for it.

The rest of the worker knows only this file. `workers.runtime.engine` implements it with SGLang,
`workers.engine.null` without a model, for benchmarks and tests. Times here are UTC epoch seconds,
unless they are said to be monotonic, which all processes of a machine share, too.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from workers.engine.load import EngineLoad
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision
from workers.policy.qos import RequestQos


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation; exactly one of `messages`, `prompt` and `input_ids` is set."""

    request_id: str
    """Unique among the requests that the engine holds, and not a prefix of another's."""
    qos: RequestQos
    messages: Sequence[Mapping[str, Any]] | None = None
    """Chat messages in OpenAI's form; they go through the model's own chat template."""
    prompt: str | None = None
    input_ids: Sequence[int] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Options under OpenAI's names (max_tokens, temperature, stop, response_format, ...) and
    SGLang's further ones (top_k, min_p, regex, ...). Left out or None: the model's default."""
    stream: bool = True
    """False: after the first token, updates may be combined into fewer, larger ones."""
    traceparent: str | None = None
    """The W3C trace context of the generation. With one, the first update tells the chunks of its
    prompt, if the engine computes prompts in chunks."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that the engine has checked and tokenized: `generate` will accept it."""

    request_id: str
    prompt_tokens: int
    max_tokens: int
    """The most tokens that it can generate, after the context length has bounded it."""
    payload: Any = None
    """The engine's own form of the request; opaque to everybody else."""


class FinishReason(StrEnum):
    STOP = "stop"
    """An end-of-sequence token or a stop string."""
    LENGTH = "length"
    """`max_tokens` or the context length was reached."""
    CANCELLED = "cancelled"
    """`abort` was called."""
    EXPIRED = "expired"
    """Its prefill had not started by `RequestQos.expires_s`."""
    TOO_LARGE = "too_large"
    """What was generated is more than the job's result may have."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithm of the probability of one generated token, and of its alternatives."""

    token_id: int
    text: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


class PrefillChunk(NamedTuple):
    """A part of a prompt that one iteration computed. Times are UTC epoch seconds."""

    start_s: float
    end_s: float
    tokens: int
    iteration: int
    """Its number, counted by the scheduler since its start."""
    predicted_s: float
    """How long the iteration was to take."""


@dataclass(frozen=True, slots=True)
class PrefillChunks:
    """How a prompt was computed, up to its first token."""

    chunks: tuple[PrefillChunk, ...]
    """In order. The last one made the first token."""
    left_out: int = 0
    """There were so many more, before the last one."""


@dataclass(frozen=True, slots=True)
class GenerationUpdate:
    """What was generated since the previous update; the counts are totals so far."""

    text_delta: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Prompt tokens that were found in the prefix cache."""
    finish_reason: FinishReason | None = None
    """Set in the last update, and only there."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One for each of `token_ids`, when the request asked for them."""
    ended_by: Decision | None = None
    """The scheduler's decision behind an end as EXPIRED; `Engine.decisions` does not repeat it."""
    prefill: PrefillChunks | None = None
    """In the first update of a request with a `traceparent`."""
    ready_s: float | None = None
    """Monotonic: when it was there, if it was held back since."""
    engine_times: EngineTimes | None = None
    """In the last update: where the request's time in the engine went, in monotonic seconds."""


class EngineError(Exception):
    """Base of everything that an engine raises deliberately."""

    last: GenerationUpdate | None = None
    """What the engine says of the request's time, if it was in the engine."""


class InvalidRequest(EngineError):  # noqa: N818 - it names what is wrong, like the ones below
    """The request can never be served as it is; the message says what to change."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a generated token in the context or in the KV cache."""


class NotPrepared(EngineError):  # noqa: N818
    """The request ended while it waited to be prepared: `abort` was called, or it expired."""

    def __init__(self, message: str, ended_by: Decision | None = None) -> None:
        """`ended_by`: that it expired. None: it was aborted."""
        super().__init__(message)
        self.ended_by = ended_by


class EngineStartError(EngineError):
    """The engine cannot start as it is configured; the message says what to change."""


class EngineDead(EngineError):  # noqa: N818
    """The engine is gone, and every request in it: they must run again, in another process."""


class Engine(Protocol):
    """One replica of one model. Call it from one event loop, in the process's main thread."""

    @property
    def model(self) -> str:
        """The name by which jobs ask for the model."""

    @property
    def silence_s(self) -> float:
        """How long the engine, or a part that its work waits for, has shown no sign of life.

        Seconds, in steps of a second or two while all is well. Infinite once it is dead.
        """

    @property
    def context_tokens(self) -> int | None:
        """What fits into one request, its answer included; None before `start`."""

    @property
    def load(self) -> EngineLoad | None:
        """How busy it was when it last said so, some second ago; None: it has not yet.

        What arrives with the decisions: somebody has to read `decisions`.
        """

    async def start(self) -> None:
        """Load the model; returns when the engine can serve. Blocks the event loop meanwhile.

        Raises EngineStartError.
        """

    async def close(self) -> None:
        """Stop the engine and its processes; requests still in it raise EngineDead."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        """Check and tokenize a request without queueing it.

        Interactive requests come first, then those with the earliest deadline. Raises
        InvalidRequest, PromptTooLong; NotPrepared; EngineDead.
        """

    def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        """Queue a request in the engine and yield what it generates, until a finish reason.

        Updates that the reader has not consumed yet are combined. Closing the iterator early
        aborts the request. Raises EngineDead; InvalidRequest for what only the scheduler detects,
        such as a grammar that does not compile; EngineError when the engine gave the request up.
        """

    def abort(self, request_id: str) -> None:
        """Cancel a request that is queued, parked or running; its iterator ends as CANCELLED. One
        that waits for its preparation may end there, as NotPrepared.

        A request that the engine does not hold is ignored.
        """

    def decisions(self) -> AsyncIterator[Decision]:
        """Yield the scheduler's decisions, in order, until `close`. One reader at a time.

        Raises EngineDead when the engine dies, also while no request is running.
        """
