"""What a run shows from outside, by job."""

from dataclasses import dataclass, field
from uuid import UUID

from schemas import JobEvent
from schemas.event import Source
from tests.chaos.journal import Output, digest


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A job in the ledger."""

    status: str
    terminal_event_id: UUID | None
    output: Output
    error: str
    attempt: int
    arrived_at_s: float | None
    finished_at_s: float | None
    tag: str | None
    source: Source | None = None
    """The record that is the job."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A terminal event: in the events topic, or as a reply."""

    event_id: UUID
    status: str
    attempt: int
    worker_id: str
    output: Output
    at_s: float
    source: Source | None = None
    """The record that it is about."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What `GET /v1/jobs/{id}` says at the end.

    The status is "unknown" after a 404, and "unavailable" when there is no answer.
    """

    status: str
    output: Output
    reply: str | None = None
    """What became of the reply. None: the job named no topic."""


@dataclass(slots=True)
class Evidence:
    """Everything that was seen, by job."""

    ledger: dict[UUID, LedgerRow] = field(default_factory=dict)
    api: dict[UUID, ApiAnswer] = field(default_factory=dict)
    endings: dict[UUID, list[Ending]] = field(default_factory=dict)
    """Of the events topic, each event once."""
    touched: set[UUID] = field(default_factory=set)
    """Jobs with any event: a worker had them."""
    replies: dict[UUID, list[tuple[str, Ending]]] = field(default_factory=dict)
    """Topic and event, as a read-committed consumer sees them."""
    dead_letters: set[Source] = field(default_factory=set)
    """The records that became one."""
    streamed: dict[UUID, dict[int, int]] = field(default_factory=dict)
    """Tokens that were streamed at least, by attempt, of the record that is the job."""
    outcomes_seen: dict[UUID, set[tuple[str, UUID]]] = field(default_factory=dict)
    """Status and terminal event of ended jobs, each time that somebody looked."""


def ending_of(event: JobEvent) -> Ending:
    """The parts of a terminal event that are compared."""
    result, usage = event.result, event.usage
    output = Output(
        completion_tokens=usage.completion_tokens if usage else None,
        prompt_tokens=usage.prompt_tokens if usage else None,
        text_digest=digest(result.text) if result else None,
    )
    status, at_s = event.type.value, event.at.timestamp()
    return Ending(
        event.event_id, status, event.attempt, event.worker_id, output, at_s, event.source
    )
