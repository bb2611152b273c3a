"""JobEvent v1: what happened to a job.

Reported by its worker, or by the ledger when no worker will.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.message import Explanation, Message, Payload, UtcDatetime
from schemas.status import JobStatus
from schemas.times import JobTimes


class EventType(StrEnum):
    ADMITTED = "admitted"
    """A worker has taken the job into its scheduler."""
    STARTED = "started"
    """Its first prefill chunk is about to run."""
    FIRST_TOKEN = "first_token"
    RELEGATED = "relegated"
    """It is predicted to miss its deadline: served when capacity is left."""
    RESTORED = "restored"
    """Capacity came back: it is no longer relegated."""
    PARKED = "parked"
    """Its prefill waits for a closer deadline."""
    RETRIED = "retried"
    """An earlier attempt died with its worker."""
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its prefill had not started `expire_after_s` after its arrival."""
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job ends with it; the job's status then has the same name."""
        return self in _TERMINAL


_TERMINAL = frozenset(EventType(status) for status in JobStatus if not status.is_open)


_Count = Annotated[int, Field(ge=0, lt=2**31)]
"""As large as the ledger can store."""


TraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""As in a `traceparent`."""

LEDGER = "ledger"
"""In place of a worker's id, in events that the gateways' ledger itself publishes."""


class Usage(Payload):
    """Token counts so far. `cached_tokens` of the prompt came from the prefix cache."""

    prompt_tokens: _Count
    completion_tokens: _Count = 0
    cached_tokens: _Count = 0


class Prediction(Payload):
    """What a scheduling decision was based on."""

    finish_at: UtcDatetime | None = None
    """Predicted first token (interactive) or last token (others)."""
    deadline_at: UtcDatetime | None = None
    queue_wait_s: float | None = None


class JobResult(Payload):
    """What the model generated."""

    text: str
    token_ids: list[int] | None = Field(default=None, fail_fast=True)
    finish_reason: Literal["stop", "length", "abort"]
    logprobs: list[dict[str, Any]] | None = Field(default=None, fail_fast=True)


class JobError(Payload):
    """Why a job failed, for programs (`code`) and for people (`message`)."""

    code: Literal[
        "invalid_json",
        "invalid_request",
        "unsupported_schema_version",
        "too_large",
        "unknown_qos",
        "wrong_model",
        "prompt_too_long",
        "duplicate_job_id",
        "too_many_attempts",
        "engine_error",
        "record_deleted",
        "refused_by_ledger",
        "internal_error",
    ]
    message: Explanation


class Source(Payload):
    """The Kafka record that carried the job."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} at {self.offset}"


class JobEvent(Message):
    """One step in a job's life. The first terminal event wins; others are duplicates.

    Events whose `source` is another record with the job's id are not about the job.
    """

    event_id: UUID
    """Identifies the event: a second delivery of it changes nothing."""
    job_id: UUID
    type: EventType
    at: UtcDatetime
    attempt: int = Field(ge=1, lt=2**31)
    worker_id: str
    pool: str
    source: Source | None = None
    duplicate_of: Source | None = None
    """The record that has the job's id, in the event of a later one that was refused."""
    usage: Usage | None = None
    largest_gap_ms: float | None = Field(default=None, ge=0)
    """The longest time between two tokens, over the whole generation."""
    reason: Explanation | None = None
    prediction: Prediction | None = None
    times: JobTimes | None = None
    """Where the time went, in the event that ends a job which a worker took."""
    trace_id: TraceId | None = None
    """Of the job's trace, in the event that ends it, if the worker has kept the trace."""
    result: JobResult | None = None
    error: JobError | None = None
