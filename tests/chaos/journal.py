"""What was acknowledged, and what has to become of it."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from schemas.event import Source

ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


def digest(text: str) -> str:
    """Stands for a text when texts are compared. The ledger cannot store U+0000."""
    stored = text.replace("\0", "\ufffd")
    return hashlib.blake2b(stored.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Output:
    """What a generation is recognized by. None: not known, and not compared."""

    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    text_digest: str | None = None

    def contradicts(self, other: "Output") -> bool:
        """Whether a field that both know differs."""
        return any(
            mine is not None and its is not None and mine != its
            for mine, its in (
                (self.completion_tokens, other.completion_tokens),
                (self.prompt_tokens, other.prompt_tokens),
                (self.text_digest, other.text_digest),
            )
        )


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is right for a job."""

    statuses: frozenset[str] = frozenset({"completed"})
    """Terminal statuses that are fine. Empty: the job must not run at all."""
    output: Output = Output()
    """Of a completed job."""
    expire_after_s: float | None = None
    reply_topic: str | None = None
    """Where the reply has to be. None: nowhere."""
    reply_stays: bool = True
    """False: it may be deleted with its topic."""
    no_reply: str | None = None
    """What the API says of a reply that cannot be sent."""
    tag: str | None = None
    """The job's `metadata["chaos"]`, by which its row is told from another job's."""


@dataclass(frozen=True, slots=True)
class AcknowledgedJob:
    """A job that Kafka or the API has confirmed."""

    job_id: UUID
    origin: str
    """How it was submitted, for people."""
    asked_at_s: float
    """UTC epoch seconds of the first try."""
    expectation: Expectation
    chat_service_s: float | None = None
    """Of an ordinary chat: how long its generation takes. None: not used to measure recovery."""
    source: Source | None = None
    """Its record, if that is known."""


@dataclass(slots=True)
class Journal:
    """Filled in by the load and by the hostile records, read by the reconciler."""

    jobs: dict[UUID, AcknowledgedJob] = field(default_factory=dict)
    unconfirmed: Counter[str] = field(default_factory=Counter)
    """Submissions that were never confirmed, by origin: such a job may exist or not."""
    refused: dict[Source, str] = field(default_factory=dict)
    """Records that are no jobs, and their kind: each has to become a dead letter."""
    surprises: list[str] = field(default_factory=list)
    """Answers that no client should get, such as two jobs for one idempotency key."""

    def acknowledge(self, job: AcknowledgedJob) -> None:
        self.jobs.setdefault(job.job_id, job)
