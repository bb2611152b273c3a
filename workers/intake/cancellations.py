"""Which jobs are to be cancelled."""

from uuid import UUID

from schemas import JobControl
from schemas.qos import DAY_S

MAX_REQUESTS = 100_000
MAX_AGE_S = 7 * DAY_S
"""The retention of job topics: no job is older."""


class Cancellations:
    """Remembers requests, even for jobs that have not arrived yet. Forgets the oldest first."""

    def __init__(self) -> None:
        self._requests: dict[UUID, JobControl] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: JobControl, now_s: float) -> bool:
        """Remember `request`. False when it is too old to concern any job."""
        if request.requested_at.timestamp() < now_s - MAX_AGE_S:
            return False
        self._requests.pop(request.job_id, None)
        self._requests[request.job_id] = request
        if len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return True

    def by_job(self, job_id: UUID) -> JobControl | None:
        return self._requests.get(job_id)
