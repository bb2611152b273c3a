"""JobControl v1: what the gateway asks of whichever worker has a job."""

from typing import Literal
from uuid import UUID

from schemas.message import Explanation, Message, UtcDatetime

MAX_CONTROL_BYTES = 64 * 1024
"""A larger record is no request: every worker reads all of them before its first job."""


class JobControl(Message):
    """A request to cancel a job, wherever it is: queued, waiting, parked or running."""

    job_id: UUID
    action: Literal["cancel"] = "cancel"
    requested_at: UtcDatetime
    reason: Explanation | None = None
    """Cut to its first 1,000 characters, it becomes that of the job's `cancelled` event."""
