"""The work that this worker has in hand."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from niyama.kafka import ConsumedRecord
from workers.execution.job import Job
from workers.offsets.watermark import Flight, PartitionProgress
from workers.reporting.reporter import Subject

_BYTES_PER_TOKEN = 4  # a guess, until the engine has counted


@dataclass(slots=True, eq=False)
class Work:
    """One attempt at one job."""

    job: Job
    record: ConsumedRecord
    flight: Flight
    progress: PartitionProgress
    subject: Subject
    request_id: str
    prompt_tokens: int
    handed_in_s: float | None = None
    """When the engine got it, in UTC epoch seconds."""
    started: bool = False
    """The engine has begun with it."""
    cancelled: bool = False
    """Somebody asked for it to be stopped."""
    cancel_reason: str | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


@dataclass(slots=True)
class Load:
    """How much of one topic's work is in hand."""

    jobs: int = 0
    prompt_tokens: int = 0


class Roster:
    """Finds work by job and by request, and counts it by topic."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """``on_change`` is called whenever work leaves."""
        self.on_change = on_change
        self._by_job: dict[UUID, Work] = {}
        self._by_request: dict[str, Work] = {}
        self._loads: dict[str, Load] = {}
        self._serial = 0
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._by_job)

    def __iter__(self) -> Iterator[Work]:
        return iter(list(self._by_job.values()))

    def __contains__(self, work: Work) -> bool:
        return self._by_request.get(work.request_id) is work

    def load(self, topic: str) -> Load:
        return self._loads.setdefault(topic, Load())

    def has(self, job_id: UUID) -> bool:
        return job_id in self._by_job

    def of_job(self, job_id: UUID) -> Work | None:
        return self._by_job.get(job_id)

    def of_request(self, request_id: str) -> Work | None:
        return self._by_request.get(request_id)

    def add(
        self,
        job: Job,
        record: ConsumedRecord,
        flight: Flight,
        progress: PartitionProgress,
        subject: Subject,
    ) -> Work:
        """Take a job in hand that is not there yet."""
        self._serial += 1
        # The serial keeps attempts of one job apart; its fixed width, as an engine wants, keeps
        # one request's id from being the beginning of another's.
        request_id = f"{self._serial:012x}-{job.job_id}"
        guess = len(record.value or b"") // _BYTES_PER_TOKEN
        work = Work(job, record, flight, progress, subject, request_id, guess)
        self._by_job[job.job_id] = work
        self._by_request[request_id] = work
        load = self.load(record.topic)
        load.jobs += 1
        load.prompt_tokens += guess
        return work

    def measured(self, work: Work, prompt_tokens: int) -> None:
        """The engine has counted the prompt's tokens."""
        if work not in self:
            return
        self.load(work.record.topic).prompt_tokens += prompt_tokens - work.prompt_tokens
        work.prompt_tokens = prompt_tokens

    def remove(self, work: Work) -> None:
        """The work is done, or somebody else's. Safe to call again."""
        if work not in self:
            return
        del self._by_request[work.request_id]
        del self._by_job[work.job.job_id]
        load = self.load(work.record.topic)
        load.jobs -= 1
        load.prompt_tokens -= work.prompt_tokens
        self._left.set()
        self.on_change()

    async def emptied(self) -> None:
        """Return when nothing is in hand."""
        while self._by_job:
            self._left.clear()
            await self._left.wait()
