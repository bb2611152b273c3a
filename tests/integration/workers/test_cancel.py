"""A cancellation reaches a job wherever it is."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from schemas import EventType, JobControl
from tests.support.workers import Harness


async def test_a_running_job_is_cancelled_with_what_it_had_generated(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish("gate", max_tokens=50)
    await harness.until_type(job_id, EventType.FIRST_TOKEN)
    await harness.producer.cancel(job_id, "no longer needed")
    (cancelled,) = await harness.until_ended(job_id)
    assert cancelled.type is EventType.CANCELLED
    assert cancelled.reason == "no longer needed"
    assert 1 <= cancelled.usage.completion_tokens < 50
    await harness.settle(0.2)
    assert harness.types(job_id).count(EventType.CANCELLED) == 1


async def test_a_job_cancelled_before_it_arrives_is_never_run(harness: Harness) -> None:
    worker = await harness.worker()
    running = await harness.publish("gate")
    await harness.until_type(running, EventType.FIRST_TOKEN)
    job_id = uuid4()
    await harness.producer.cancel(job_id, "changed my mind")
    await harness.producer.cancel(running)
    await harness.until_ended(running)  # by the later of two records of one partition
    await harness.publish("never", job_id=job_id)
    (cancelled,) = await harness.until_ended(job_id)
    assert (cancelled.type, cancelled.reason) == (EventType.CANCELLED, "changed my mind")
    assert worker.engine.seen == ["gate"]


async def test_cancellations_are_known_before_the_first_job_is_taken(harness: Harness) -> None:
    jobs = [await harness.publish("never") for _ in range(20)]
    for job_id in jobs[::2]:
        await harness.producer.cancel(job_id)
    worker = await harness.worker()
    ended = await harness.until_ended(*jobs)
    assert [event.type for event in ended] == [EventType.CANCELLED, EventType.COMPLETED] * 10
    assert len(worker.engine.seen) == 10


async def test_a_cancellation_by_a_clock_that_is_wrong_counts(harness: Harness) -> None:
    job_id = uuid4()
    late = JobControl(job_id=job_id, requested_at=datetime.now(UTC) - timedelta(days=8))
    await harness.send_control(late.to_bytes())
    await harness.worker()
    await harness.publish(job_id=job_id)
    (ended,) = await harness.until_ended(job_id)
    assert ended.type is EventType.CANCELLED


async def test_cancelling_a_finished_or_unknown_job_changes_nothing(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish()
    await harness.until_ended(job_id)
    await harness.producer.cancel(job_id)
    await harness.producer.cancel(uuid4())
    await harness.settle(0.3)
    assert harness.types(job_id)[-1] is EventType.COMPLETED
