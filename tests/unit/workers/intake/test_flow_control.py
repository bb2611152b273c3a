"""Partitions are paused while enough of their topic is in flight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from hypothesis import given
from hypothesis import strategies as st

from schemas import JobRequest, QosCatalog
from tests.support.records import TOPICS, FakeRecord, tracked
from tests.support.senders import FakeSender
from workers.execution.in_flight import InFlightJob, InFlightJobs, TopicLoad
from workers.intake.backpressure import ALL_OPEN, Budget, Limits, next_gates
from workers.intake.flow_control import FlowControl
from workers.job import Job, qos_of
from workers.offsets.partitions import Partitions
from workers.reporting.job_attempt import JobAttempt

MIB = 1024 * 1024
BATCH, CHAT = (TopicPartition(spec.name, 0) for spec in (TOPICS.batch, TOPICS.interactive))


class FakeKafka:
    """A consumer of two partitions without commits, and the admin client that knows of none."""

    def __init__(self) -> None:
        self.paused = {BATCH, CHAT}

    def assignment(self) -> set[TopicPartition]:
        return {BATCH, CHAT}

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        self.paused.discard(partition)

    async def list_consumer_group_offsets(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return dict.fromkeys(partitions, OffsetAndMetadata(-1, ""))


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


@pytest.fixture
def in_flight() -> InFlightJobs:
    return InFlightJobs()


@dataclass
class Clock:
    now_s: float = 100.0

    def now(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def flow(
    kafka: FakeKafka, in_flight: InFlightJobs, sender: FakeSender, clock: Clock
) -> FlowControl:
    partitions = Partitions(kafka, kafka, "group", session_timeout_s=10, clock=lambda: 0.0)
    await partitions.assign(kafka.assignment())
    limits = Limits(Budget(10, 1000, MIB), Budget(2, 1000, MIB))
    flow = FlowControl(kafka, partitions, in_flight, sender, TOPICS, limits, clock.now)
    flow.rebalanced()
    return flow


def _batch_job(in_flight: InFlightJobs, size_bytes: int = 0) -> InFlightJob:
    request = JobRequest(model="m", prompt="p", qos="q2")
    qos = qos_of(request, QosCatalog.shipped().resolve("q2"), 1000.0)
    record, job_id = FakeRecord(bytes(size_bytes), BATCH.topic, partition=0), uuid4()
    return in_flight.add(
        Job(job_id, request, qos), tracked(record), JobAttempt.of(record, job_id, 1)
    )


async def test_a_full_topic_is_paused_and_resumed_when_jobs_leave(
    flow: FlowControl, kafka: FakeKafka, in_flight: InFlightJobs
) -> None:
    assert kafka.paused == set()
    jobs = [_batch_job(in_flight) for _ in range(2)]
    flow.update()
    assert kafka.paused == {BATCH}
    assert flow.is_paused(BATCH)
    in_flight.remove(jobs[0])
    flow.update()
    assert kafka.paused == set()


async def test_a_partition_has_been_read_since_it_was_last_resumed(
    flow: FlowControl, in_flight: InFlightJobs, clock: Clock
) -> None:
    clock.now_s = 101.0
    jobs = [_batch_job(in_flight) for _ in range(2)]
    flow.update()
    clock.now_s = 105.0
    in_flight.remove(jobs[0])
    flow.update()
    flow.update_partitions()
    assert (flow.reading_since_s(BATCH), flow.reading_since_s(CHAT)) == (105.0, 100.0)


async def test_everything_is_paused_while_reports_wait_for_kafka(
    flow: FlowControl, kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSender, "full", property(lambda _: True))
    flow.update()
    assert kafka.paused == {BATCH, CHAT}


async def test_nothing_is_resumed_after_the_end(flow: FlowControl, kafka: FakeKafka) -> None:
    flow.stop()
    flow.rebalanced()
    flow.update_partitions()
    assert kafka.paused == {BATCH, CHAT}


class Intake:
    """Takes jobs whenever the batch topic is open; each has so many bytes and so many tokens."""

    limit = Budget(jobs=5, prompt_tokens=1_000, memory_bytes=50_000)

    def __init__(self) -> None:
        self.in_flight = InFlightJobs()
        self.gates = ALL_OPEN
        self.jobs: list[InFlightJob] = []
        self.largest = TopicLoad()

    @property
    def load(self) -> TopicLoad:
        return self.in_flight.load(BATCH.topic)

    def arrives(self, size_bytes: int, prompt_tokens: int) -> None:
        self.follow()
        if not self.gates.batch:
            return
        before = replace(self.load)
        job = _batch_job(self.in_flight, size_bytes)
        self.largest.prompt_tokens = max(
            self.largest.prompt_tokens, self.load.prompt_tokens - before.prompt_tokens
        )
        self.largest.memory_bytes = max(
            self.largest.memory_bytes, self.load.memory_bytes - before.memory_bytes
        )
        self.in_flight.set_prompt_tokens(job, min(prompt_tokens, job.prompt_tokens))
        self.jobs.append(job)

    def leaves(self) -> None:
        if self.jobs:
            self.in_flight.remove(self.jobs.pop(0))

    def follow(self) -> None:
        loads = TopicLoad(), self.load, TopicLoad()
        self.gates = next_gates(Limits(self.limit, self.limit), *loads, self.gates)


@given(st.lists(st.none() | st.tuples(st.integers(0, 100_000), st.integers(0, 25_000))))
def test_whatever_arrives_and_leaves_a_budget_is_exceeded_by_one_job_at_most(
    steps: list[tuple[int, int] | None],
) -> None:
    intake = Intake()
    for step in steps:
        if step is None:
            intake.leaves()
        else:
            intake.arrives(*step)
        load, limit, largest = intake.load, intake.limit, intake.largest
        assert load.jobs <= limit.jobs
        assert load.prompt_tokens <= limit.prompt_tokens + largest.prompt_tokens
        assert load.memory_bytes <= limit.memory_bytes + largest.memory_bytes
    while intake.jobs:
        intake.leaves()
    assert intake.load == TopicLoad()
    intake.follow()
    assert intake.gates == ALL_OPEN
