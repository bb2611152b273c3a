"""The jobs that this worker has taken and not finished."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from workers.execution.job import Job
from workers.offsets.tracked_record import TrackedRecord
from workers.reporting.job_attempt import JobAttempt

_BYTES_PER_TOKEN = 4
"""An estimate, until the engine has tokenized the prompt."""
_HELD_PER_RECORD_BYTE = 6
"""Measured: the record itself, and its text decoded, four bytes a character if one is an emoji."""
_HELD_PER_TOKEN = 48
"""Measured: a token id is an object of 28 bytes, and is in two lists."""


@dataclass(slots=True, eq=False)
class InFlightJob:
    """One attempt at one job, from the moment it is taken until its end is acknowledged.

    Its verbs keep `PendingRecord.attempt_counts`, which says whether the job is to blame if the
    worker dies: while the engine prepares it, and from the start of its prefill to its end. A job
    that only waits, before or after it is prepared, is not to blame.
    """

    spec: Job
    tracked: TrackedRecord
    attempt: JobAttempt
    request_id: str
    prompt_tokens: int
    has_started: bool = False
    """The engine has started its prefill."""
    cancelled: bool = False
    """Its cancellation was requested."""
    cancel_reason: str | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)
    _submitted_s: float | None = None
    """When it was submitted to the engine, in UTC epoch seconds. None before that and after its
    end."""

    # ---- verbs

    def queued(self) -> None:
        """It waits to be prepared."""
        self._count_attempt(False)

    def preparing(self) -> None:
        """The engine prepares it, or is about to."""
        self._count_attempt(True)

    def submitted(self, now_s: float) -> None:
        """It waits in the engine, from `now_s` (UTC epoch seconds) on."""
        self._submitted_s = now_s
        self._count_attempt(False)

    def started(self) -> None:
        """The engine has started its prefill."""
        self.has_started = True
        self._count_attempt(True)

    def ended(self) -> None:
        """Its end is being reported: whatever crashes after this, the job is not the cause."""
        self._submitted_s = None
        self._count_attempt(False)

    def may_have_crashed(self, since_s: float) -> None:
        """The engine has died: blame the job, too, if it was submitted at `since_s` or later.

        The engine may have been looking at it without having reported that it started it.
        """
        if self._submitted_s is not None and self._submitted_s >= since_s:
            self._count_attempt(True)

    def _count_attempt(self, counts: bool) -> None:
        self.tracked.pending.attempt_counts = counts


@dataclass(slots=True)
class TopicLoad:
    """How much of one topic is in flight."""

    jobs: int = 0
    prompt_tokens: int = 0
    memory_bytes: int = 0
    """An estimate of what these jobs occupy in this process."""

    def add(self, record_bytes: int, prompt_tokens: int) -> None:
        """A job whose prompt has so many tokens."""
        self.jobs += 1
        self.memory_bytes += record_bytes * _HELD_PER_RECORD_BYTE
        self.count_tokens(prompt_tokens)

    def remove(self, record_bytes: int, prompt_tokens: int) -> None:
        """The opposite."""
        self.jobs -= 1
        self.memory_bytes -= record_bytes * _HELD_PER_RECORD_BYTE
        self.count_tokens(-prompt_tokens)

    def count_tokens(self, more: int) -> None:
        """A job has `more` tokens than was thought; negative when it has fewer."""
        self.prompt_tokens += more
        self.memory_bytes += more * _HELD_PER_TOKEN


class InFlightJobs:
    """Finds jobs by their id and by their engine request, and adds up the load of each topic."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, InFlightJob] = {}
        self._by_request: dict[str, InFlightJob] = {}
        self._loads: dict[str, TopicLoad] = {}
        self._serial = 0
        self._removed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._by_job)

    def __iter__(self) -> Iterator[InFlightJob]:
        return iter(list(self._by_job.values()))

    def __contains__(self, job: InFlightJob) -> bool:
        return self._by_request.get(job.request_id) is job

    def load(self, topic: str) -> TopicLoad:
        return self._loads.setdefault(topic, TopicLoad())

    def by_job(self, job_id: UUID) -> InFlightJob | None:
        return self._by_job.get(job_id)

    def by_request(self, request_id: str) -> InFlightJob | None:
        return self._by_request.get(request_id)

    def add(self, spec: Job, tracked: TrackedRecord, attempt: JobAttempt) -> InFlightJob:
        """Take a job that is not in flight yet."""
        self._serial += 1
        # The serial tells attempts at the same job apart; its fixed width ensures, as engines
        # require, that no request id is a prefix of another.
        request_id = f"{self._serial:012x}-{spec.job_id}"
        size_bytes = len(tracked.record.value or b"")
        estimate = size_bytes // _BYTES_PER_TOKEN
        job = InFlightJob(spec, tracked, attempt, request_id, estimate)
        self._by_job[spec.job_id] = job
        self._by_request[request_id] = job
        self.load(tracked.record.topic).add(size_bytes, estimate)
        return job

    def set_prompt_tokens(self, job: InFlightJob, prompt_tokens: int) -> None:
        """Replace the estimate by what the engine has counted."""
        if job not in self:
            return
        self.load(job.tracked.record.topic).count_tokens(prompt_tokens - job.prompt_tokens)
        job.prompt_tokens = prompt_tokens

    def remove(self, job: InFlightJob) -> None:
        """The job has ended, or belongs to another worker. Safe to call again."""
        if job not in self:
            return
        del self._by_request[job.request_id]
        del self._by_job[job.spec.job_id]
        record = job.tracked.record
        self.load(record.topic).remove(len(record.value or b""), job.prompt_tokens)
        self._removed.set()

    async def wait_until_empty(self) -> None:
        while self._by_job:
            self._removed.clear()
            await self._removed.wait()
