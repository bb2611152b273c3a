"""Which jobs are to be cancelled."""

from uuid import UUID

from schemas import JobControl

MAX_REQUESTS = 100_000


class Cancellations:
    """Remembers requests, even for jobs that have not arrived yet. Forgets the oldest first."""

    def __init__(self) -> None:
        self._requests: dict[UUID, JobControl] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: JobControl) -> None:
        """Remember `request`, whenever it says that it was made: clocks may be wrong."""
        self._requests.pop(request.job_id, None)
        self._requests[request.job_id] = request
        if len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]

    def by_job(self, job_id: UUID) -> JobControl | None:
        return self._requests.get(job_id)
