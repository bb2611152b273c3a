"""What became of a job's reply."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Label, Row, func

from gateway.ledger.job import Job
from gateway.ledger.tables import failing_reply_topics, jobs, reply_outbox


class ReplyState(StrEnum):
    PENDING = "pending"
    """Its job is not over, or it is on its way."""
    SENT = "sent"
    UNDELIVERABLE = "undeliverable"
    """It is not retried until an operator says so (`niyama replies retry`)."""
    DROPPED = "dropped"
    """It was undeliverable, and an operator deleted it (`niyama replies drop`)."""


@dataclass(frozen=True, slots=True)
class ReplyStatus:
    """Of a job that named a reply topic."""

    topic: str
    state: ReplyState
    error: str | None
    """Why the last attempt failed."""


REPLY_COLUMNS: tuple[Label[Any], ...] = (
    jobs.c.reply_dropped_at.label("reply_was_dropped_at"),
    reply_outbox.c.job_id.label("reply_in_outbox"),
    reply_outbox.c.undeliverable_at.label("reply_undeliverable_at"),
    func.coalesce(reply_outbox.c.error, failing_reply_topics.c.error).label("reply_error"),
)
"""What `status_of` reads, beside the job."""


def status_of(job: Job, row: Row[*tuple[Any, ...]]) -> ReplyStatus | None:
    """From a row with REPLY_COLUMNS; None for a job that wants no reply."""
    if job.request is None or job.request.reply_topic is None:
        return None
    if row.reply_undeliverable_at is not None:
        state = ReplyState.UNDELIVERABLE
    elif row.reply_in_outbox is not None or job.outcome is None:
        state = ReplyState.PENDING
    elif row.reply_was_dropped_at is not None:
        state = ReplyState.DROPPED
    else:
        state = ReplyState.SENT  # a row leaves the outbox when its reply is in its topic
    return ReplyStatus(job.request.reply_topic, state, row.reply_error)
