"""Partitions are paused while enough of their topic is in flight."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from schemas import JobRequest, QosCatalog
from tests.support.records import TOPICS, FakeRecord, tracked
from tests.support.senders import FakeSender
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job import Job, qos_of
from workers.intake.backpressure import Limits
from workers.intake.flow_control import FlowControl
from workers.offsets.partitions import Partitions
from workers.reporting.job_attempt import JobAttempt

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


@pytest.fixture
async def flow(kafka: FakeKafka, in_flight: InFlightJobs, sender: FakeSender) -> FlowControl:
    partitions = Partitions(kafka, kafka, "group")
    await partitions.assign(kafka.assignment())
    limits = Limits(interactive_jobs=10, batch_jobs=2, batch_prompt_tokens=1000)
    flow = FlowControl(kafka, partitions, in_flight, sender, TOPICS, limits)
    flow.rebalanced()
    return flow


def _batch_job(in_flight: InFlightJobs) -> InFlightJob:
    request = JobRequest(model="m", prompt="p", qos="q2")
    qos = qos_of(request, QosCatalog.shipped().resolve("q2"), 1000.0)
    record, job_id = FakeRecord(topic=BATCH.topic, partition=0), uuid4()
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
