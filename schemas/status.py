"""Where a job stands, as the ledger and the HTTP API say it."""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands, in the order of its life."""

    # The ledger relies on the order: of two statuses it takes the later.

    QUEUED = "queued"
    """It is in a job topic, and no worker has taken it."""
    ADMITTED = "admitted"
    """A worker has it."""
    RUNNING = "running"
    """Its prefill has started."""
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether the job has still to end."""
        return self in OPEN_STATUSES


OPEN_STATUSES = frozenset({JobStatus.QUEUED, JobStatus.ADMITTED, JobStatus.RUNNING})
