"""JobRequest v1: one piece of LLM work, as a producer publishes it."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from schemas.message import Message, Name, Payload
from schemas.qos import DAY_S, QosTargets

MAX_JOB_BYTES = 1024 * 1024
"""The largest job document. Topics carry somewhat more, so that a larger one arrives and is
answered with a reason instead of failing somewhere in a client library."""
DEFAULT_TENANT = "default"
"""Of jobs that name none."""
MAX_MESSAGES = 10_000
"""More of them fit into a job only when they say nothing, and they take long to read."""


class JobTooLargeError(ValueError):
    """An encoded job is larger than the contract allows."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the job is {size_bytes:,} bytes; at most {MAX_JOB_BYTES:,} are allowed")


TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
StopSequence = Annotated[str, StringConstraints(min_length=1, max_length=256)]
StopSequences = Annotated[list[StopSequence], Field(max_length=16, fail_fast=True)]


ClassOrTargets = Annotated[
    Annotated[Name, Tag("class")] | Annotated[QosTargets, Tag("targets")],
    Discriminator(lambda value: "class" if isinstance(value, str) else "targets"),
]


class ChatMessage(Payload):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    name: Name | None = None


class JsonSchemaFormat(Payload):
    """OpenAI's `json_schema` object."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Payload):
    """OpenAI's `response_format`: plain text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_when_needed(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("type json_schema needs json_schema, and no other type takes it")
        return self


class SamplingParameters(Payload):
    """How to sample, with OpenAI's names; `top_k` and below are SGLang's additions.

    Bounds are those of the tensors into which SGLang puts the values: one that overflowed would
    end the scheduler, and every job in it.
    """

    max_tokens: int = Field(default=256, ge=1, le=1_048_576)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=1e-6, le=1)
    stop: StopSequence | StopSequences | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """The same seed and prompt give the same answer, where the worker runs with SGLang's
    `--enable-deterministic-inference`. Elsewhere it has no effect."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    response_format: ResponseFormat | None = None
    top_k: int | None = Field(default=None, ge=1, lt=2**31)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=1e-3, le=2)
    min_tokens: int = Field(default=0, ge=0, le=1_048_576)
    ignore_eos: bool = False


class JobRequest(Message, SamplingParameters):
    """One job: a prompt, how to sample, and the quality of service it asks for.

    Exactly one of `messages`, `prompt` and `input_ids` is given. The job's arrival is the
    timestamp of its Kafka record; every deadline counts from there.
    """

    job_id: UUID | None = None
    """UUIDv7 from the client library. Without one, the id follows from the record's position."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    messages: list[ChatMessage] | None = Field(
        default=None, min_length=1, max_length=MAX_MESSAGES, fail_fast=True
    )
    prompt: Annotated[str, StringConstraints(min_length=1)] | None = None
    input_ids: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, min_length=1, fail_fast=True
    )
    qos: ClassOrTargets
    """The name of a class, or targets: `ttft_ms` and `tbt_ms`, `ttlt_ms`, `ttlt_s`, or `task`."""
    importance: Literal["high", "low"] = "high"
    """Decides only who is relegated first when not every deadline can be met."""
    expire_after_s: float | None = Field(default=None, gt=0, le=7 * DAY_S, allow_inf_nan=False)
    """The job ends as expired when its prefill has not started this long after its arrival.
    Without it, it is served however late."""
    tenant: Name = DEFAULT_TENANT
    application: Name | None = None
    """Groups jobs of similar output length, for the estimate of decode work."""
    stream: bool = False
    """Publish tokens to the tokens topic as they are generated."""
    reply_topic: TopicName | None = None
    """A topic that gets the terminal event, exactly once for a read-committed consumer."""
    metadata: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        given = [self.messages, self.prompt, self.input_ids]
        if sum(part is not None for part in given) != 1:
            raise ValueError("give exactly one of messages, prompt and input_ids")
        return self
