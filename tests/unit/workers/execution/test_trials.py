"""Suspects run one at a time, and none of them waits for long, in vain, or out of reach."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

from schemas import EventType, JobControl, JobEvent, JobRequest, QosCatalog
from schemas.decode import job_id_of_record
from tests.support.consumer_group import PARTITION, FakeConsumer, FakeGroup, partitions_of
from tests.support.records import TOPICS, FakeRecord
from tests.support.senders import FakeSender
from tests.support.virtual_time import run_in_virtual_time
from workers.engine.null import NullEngine
from workers.engine.port import GenerationUpdate, PreparedRequest
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.trials import CHECK_INTERVAL_S, SILENT_AFTER_S, START_LIMIT_S
from workers.job import Job, qos_of
from workers.offsets.attempts import AttemptHistory, Exposure
from workers.offsets.tracked_record import TrackedRecord
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter


class BusyEngine(NullEngine):
    """Starts on no request before it is told to."""

    def __init__(self) -> None:
        super().__init__("m", token_delay_s=0.01)
        self.starts = asyncio.Event()
        self.silent_s = 0.0
        self.submitted: list[tuple[float, str]] = []

    @property
    def silence_s(self) -> float:
        return self.silent_s

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        job_id = prepared.request_id.partition("-")[2]
        self.submitted.append((asyncio.get_running_loop().time(), job_id))
        await self.starts.wait()
        async for update in super().generate(prepared):
            yield update


class Harness:
    """An executor with suspects."""

    def __init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.engine = BusyEngine()
        self.in_flight = InFlightJobs()
        self.jobs: dict[UUID, InFlightJob] = {}
        self.sender = FakeSender()
        self.partitions = partitions_of(FakeConsumer(FakeGroup()), clock)
        self.executor = Executor(
            self.engine,
            self.in_flight,
            Reporter(self.sender, TOPICS, worker_id="w", pool="default", clock=clock),
            partitions=self.partitions,
            on_job_left=lambda: None,
            clock=clock,
        )

    def start(self, offset: int, qos: str, expire_after_s: float | None = None) -> UUID:
        progress = self.partitions.get(PARTITION)
        assert progress is not None
        pending = progress.take(offset)
        assert pending is not None
        pending.history = AttemptHistory(attempts=2, crashes=2)
        record = FakeRecord(offset=offset)
        job_id = job_id_of_record(record.topic, record.partition, offset)
        request = JobRequest(
            model="m", prompt="p", qos=qos, max_tokens=2, expire_after_s=expire_after_s
        )
        targets = qos_of(request, QosCatalog.shipped().resolve(qos), 0.0)
        tracked = TrackedRecord(record, pending, progress)
        attempt = JobAttempt.of(record, job_id, 3)
        job = self.in_flight.add(Job(job_id, request, targets), tracked, attempt)
        self.jobs[job_id] = job
        self.executor.start(job)
        return job_id

    def ends(self) -> dict[UUID, EventType]:
        events = map(JobEvent.model_validate_json, self.sender.values())
        return {event.job_id: event.type for event in events if event.type.is_terminal}


def test_a_chat_does_not_wait_for_batch_jobs_that_the_engine_does_not_start() -> None:
    async def run() -> None:
        harness = Harness()
        await harness.partitions.assign({PARTITION})
        batch = [harness.start(offset, "batch-1h") for offset in range(2)]
        await asyncio.sleep(0.1)
        chat = harness.start(2, "chat")
        await asyncio.sleep(3 * START_LIMIT_S)
        assert [job_id for _, job_id in harness.engine.submitted] == [
            str(batch[0]),
            str(chat),
            str(batch[1]),
        ]
        times = [at_s for at_s, _ in harness.engine.submitted]
        assert times[1] - times[0] >= START_LIMIT_S - 0.1

    run_in_virtual_time(run())


def test_suspects_that_wait_for_their_trial_can_be_cancelled_and_expire() -> None:
    async def run() -> None:
        harness = Harness()
        await harness.partitions.assign({PARTITION})
        harness.start(0, "chat")
        await asyncio.sleep(0.1)
        cancelled = harness.start(1, "batch-1h")
        expired = harness.start(2, "batch-1h", expire_after_s=1)
        await asyncio.sleep(0.1)
        harness.executor.cancel(JobControl(job_id=cancelled, requested_at=datetime.now(UTC)))
        await asyncio.sleep(1.5)
        assert harness.ends() == {cancelled: EventType.CANCELLED, expired: EventType.EXPIRED}
        assert len(harness.engine.submitted) == 1

    run_in_virtual_time(run())


def test_a_job_that_survives_its_trial_goes_on_beside_others_and_is_cleared() -> None:
    async def run() -> None:
        harness = Harness()
        await harness.partitions.assign({PARTITION})
        harness.engine.starts.set()
        first, second = (harness.start(offset, "chat") for offset in range(2))
        job = harness.jobs[first]
        job.tracked.pending.history = AttemptHistory(4, 4, trial_crashes=2)
        await asyncio.sleep(1)
        assert harness.ends() == dict.fromkeys((first, second), EventType.COMPLETED)
        assert job.tracked.pending.history == AttemptHistory(4, 4, trial_crashes=0)

    run_in_virtual_time(run())


def test_time_alone_does_not_end_a_trial_while_the_engine_is_silent() -> None:
    async def run() -> None:
        harness = Harness()
        await harness.partitions.assign({PARTITION})
        first, second = (harness.start(offset, "chat") for offset in range(2))
        await asyncio.sleep(0.1)
        pending = harness.jobs[first].tracked.pending
        harness.engine.silent_s = SILENT_AFTER_S
        await asyncio.sleep(10 * START_LIMIT_S)
        assert pending.exposure is Exposure.TRIAL
        assert len(harness.engine.submitted) == 1
        harness.engine.silent_s = 0.0
        await asyncio.sleep(2 * CHECK_INTERVAL_S)
        assert pending.exposure is Exposure.NONE
        assert [job_id for _, job_id in harness.engine.submitted] == [str(first), str(second)]

    run_in_virtual_time(run())


def test_no_trial_begins_while_the_engine_is_silent() -> None:
    async def run() -> None:
        harness = Harness()
        await harness.partitions.assign({PARTITION})
        harness.engine.silent_s = SILENT_AFTER_S
        job = harness.jobs[harness.start(0, "chat")]
        await asyncio.sleep(10 * START_LIMIT_S)
        assert job.tracked.pending.exposure is Exposure.NONE
        assert not harness.engine.submitted
        harness.engine.silent_s = 0.0
        await asyncio.sleep(2 * CHECK_INTERVAL_S)
        assert harness.engine.submitted

    run_in_virtual_time(run())
