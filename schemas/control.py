"""JobControl v1: what the gateway asks of whichever worker has a job."""

from typing import Literal
from uuid import UUID

from schemas.message import Message, UtcDatetime


class JobControl(Message):
    """A request to cancel a job, wherever it is: queued, waiting, parked or running."""

    job_id: UUID
    action: Literal["cancel"] = "cancel"
    requested_at: UtcDatetime
    reason: str | None = None
