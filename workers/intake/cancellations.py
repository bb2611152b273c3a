"""Which jobs somebody asked to cancel."""

from uuid import UUID

from schemas import JobControl
from schemas.qos import DAY_S

KEPT = 100_000
KEPT_S = 7 * DAY_S  # no job is older: it is what job topics retain


class Cancellations:
    """Remembers requests for jobs that may still arrive; the oldest go first."""

    def __init__(self) -> None:
        self._requests: dict[UUID, JobControl] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: JobControl, now_s: float) -> bool:
        """Remember ``request``, unless it is too old to concern any job (then False)."""
        if request.requested_at.timestamp() < now_s - KEPT_S:
            return False
        self._requests.pop(request.job_id, None)
        self._requests[request.job_id] = request
        if len(self._requests) > KEPT:
            del self._requests[next(iter(self._requests))]
        return True

    def of(self, job_id: UUID) -> JobControl | None:
        return self._requests.get(job_id)
