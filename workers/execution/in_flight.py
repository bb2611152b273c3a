"""The jobs that this worker has taken and not finished."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from schemas.topics import MAX_VALUE_BYTES
from workers.execution.timeline import Timeline, waited
from workers.job import Job
from workers.offsets.attempts import Exposure
from workers.offsets.tracked_record import TrackedRecord
from workers.reporting.job_attempt import JobAttempt
from workers.tracing.job_trace import NO_TRACE, JobTrace, NoTrace

_BYTES_PER_TOKEN = 4
"""An estimate, until the engine has tokenized the prompt."""
_HELD_PER_RECORD_BYTE = 6
"""Measured: the record itself, and its text decoded, four bytes a character if one is an emoji."""
_HELD_PER_TOKEN = 48
"""Measured: a token id is an object of 28 bytes, and is in two lists."""
_HELD_PER_LOGPROB = 300
"""Measured: in SGLang's lists, in its tuples, and as ours."""
_MOST_LOGPROBS = MAX_VALUE_BYTES // 55
"""As JSON each has more bytes: a result with more of them is given up as too large."""


@dataclass(slots=True)
class Measured:
    """What the metrics remember of an attempt; its times are in its timeline."""

    first_token_s: float | None = None
    """When a token was there that the deadline is for, in UTC epoch seconds."""
    error_type: str = ""
    """Why it ended without success; empty: it has not."""
    state: str = "waiting"
    """In its engine: waiting, relegated, running or parked."""


@dataclass(slots=True, eq=False)
class InFlightJob:
    """One attempt at one job, from the moment it is taken until its end is acknowledged.

    Its verbs keep `PendingRecord.exposure`, which says what the worker's death would say about
    it: while the engine prepares it, shortly after it was submitted, and from the start of its
    prefill to its end, it may be the cause. A job that only waits is not.
    """

    spec: Job
    tracked: TrackedRecord
    attempt: JobAttempt
    request_id: str
    prompt_tokens: int
    timeline: Timeline = field(init=False, repr=False)
    """From when it is started."""
    is_submitted: bool = False
    """The engine has it."""
    has_started: bool = False
    """The engine has started its prefill."""
    has_ended: bool = False
    """Its end is being reported."""
    cancelled: bool = False
    """Its cancellation was requested."""
    cancel_reason: str | None = None
    measured: Measured = field(default_factory=Measured)
    written_ahead: bool = False
    """A dead worker may have been working on it."""
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)
    trace: JobTrace | NoTrace = field(default=NO_TRACE, repr=False)
    """What is noted of it for a trace."""
    _on_trial: bool = False

    @property
    def is_suspect(self) -> bool:
        """It is to run on trial."""
        return self.tracked.pending.history.is_suspect

    # ---- verbs

    def taken(self) -> None:
        """It is to be run. What is written ahead of it stays until it is known to wait."""
        self.written_ahead = self.tracked.pending.exposure is not Exposure.NONE

    def held_back(self) -> None:
        """It waits to be prepared, because of a trial: its own, or another's."""
        self._expose(Exposure.NONE)

    def preparing(self) -> None:
        """The engine prepares it, or is about to."""
        self._expose(Exposure.SHARED)

    def submitted(self) -> None:
        """The engine has it, and may start on it immediately."""
        self.is_submitted = True
        self._expose(Exposure.SUBMITTED)

    def still_waiting(self) -> None:
        """The engine has had it for a while. Ignored if it has started, or ended."""
        if not self.has_started:
            self._on_trial = False
            self._expose(Exposure.NONE)

    def started(self) -> None:
        """The engine has started its prefill. Ignored after its end, which may overtake this."""
        self.has_started = True
        self._expose(Exposure.SHARED)

    def on_trial(self) -> None:
        """It is the likely cause if this worker dies."""
        self._on_trial = True
        self._expose(Exposure.TRIAL)

    def trial_over(self) -> None:
        """It has survived its trial if it has started; otherwise the trial is put off.

        What is still being prepared may be the cause of a death all the same.
        """
        if self._on_trial and not self.has_ended:
            self._on_trial = False
            if self.has_started:
                self.tracked.pending.acquit()
            waits = self.is_submitted and not self.has_started
            self._expose(Exposure.NONE if waits else Exposure.SHARED)

    def ended(self) -> None:
        """Its end is being reported: whatever crashes after this, the job is not the cause."""
        self._on_trial = False
        self._expose(Exposure.NONE)
        self.has_ended = True

    def _expose(self, exposure: Exposure) -> None:
        if not self.has_ended:
            self.tracked.pending.exposure = Exposure.TRIAL if self._on_trial else exposure


def timeline_of(job: InFlightJob, now_s: float, monotonic_s: float) -> Timeline:
    """A timeline from now on: in UTC epoch seconds, and on the clock of all that follows."""
    arrived_s, since_s = job.spec.qos.arrival_s, job.tracked.reading_since_s
    return Timeline(waited(arrived_s, now_s, since_s, job.attempt.number), monotonic_s)


@dataclass(slots=True)
class TopicLoad:
    """How much of one topic is in flight."""

    jobs: int = 0
    prompt_tokens: int = 0
    memory_bytes: int = 0
    """An estimate of what these jobs occupy in this process."""

    def add(self, job: InFlightJob) -> None:
        """A job, with its `prompt_tokens` as of now."""
        self.jobs += 1
        self.memory_bytes += _held_bytes(job)
        self.count_tokens(job.prompt_tokens)

    def remove(self, job: InFlightJob) -> None:
        """The opposite."""
        self.jobs -= 1
        self.memory_bytes -= _held_bytes(job)
        self.count_tokens(-job.prompt_tokens)

    def count_tokens(self, more: int) -> None:
        """A job has `more` tokens than was thought; negative when it has fewer."""
        self.prompt_tokens += more
        self.memory_bytes += more * _HELD_PER_TOKEN


def _held_bytes(job: InFlightJob) -> int:
    """What a job occupies, or will, without the tokens of its prompt."""
    request = job.spec.request
    logprobs = request.max_tokens * (1 + request.top_logprobs) if request.logprobs else 0
    record_bytes = len(job.tracked.record.value or b"")
    return record_bytes * _HELD_PER_RECORD_BYTE + min(logprobs, _MOST_LOGPROBS) * _HELD_PER_LOGPROB


class InFlightJobs:
    """Finds jobs by their id and by their engine request, and adds up the load of each topic."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, list[InFlightJob]] = {}
        self._by_request: dict[str, InFlightJob] = {}
        self._loads: defaultdict[str, TopicLoad] = defaultdict(TopicLoad)
        self._serial = 0
        self._removed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._by_request)

    def __iter__(self) -> Iterator[InFlightJob]:
        return iter(list(self._by_request.values()))

    def __contains__(self, job: InFlightJob) -> bool:
        return self._by_request.get(job.request_id) is job

    def load(self, topic: str) -> TopicLoad:
        return self._loads[topic]

    @property
    def topics(self) -> Sequence[str]:
        """Those that jobs have come from, or may."""
        return tuple(self._loads)

    def by_job(self, job_id: UUID) -> Sequence[InFlightJob]:
        """More than one: records with the same id, of which the ledger counts the first."""
        return tuple(self._by_job.get(job_id, ()))

    def by_request(self, request_id: str) -> InFlightJob | None:
        return self._by_request.get(request_id)

    def add(self, spec: Job, tracked: TrackedRecord, attempt: JobAttempt) -> InFlightJob:
        """Take a record's job that is not in flight yet."""
        self._serial += 1
        # The serial tells attempts at the same job apart; its fixed width ensures, as engines
        # require, that no request id is a prefix of another.
        request_id = f"{self._serial:012x}-{spec.job_id}"
        estimate = len(tracked.record.value or b"") // _BYTES_PER_TOKEN
        job = InFlightJob(spec, tracked, attempt, request_id, estimate)
        self._by_job.setdefault(spec.job_id, []).append(job)
        self._by_request[request_id] = job
        self.load(tracked.record.topic).add(job)
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
        self._by_job[job.spec.job_id].remove(job)
        if not self._by_job[job.spec.job_id]:
            del self._by_job[job.spec.job_id]
        self.load(job.tracked.record.topic).remove(job)
        self._removed.set()

    async def wait_until_empty(self) -> None:
        while self._by_request:
            self._removed.clear()
            await self._removed.wait()
