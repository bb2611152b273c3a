"""A cancellation reaches a job wherever it is."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from schemas import EventType, JobControl


async def test_a_running_job_is_cancelled_with_what_it_had_generated(scene: Any) -> None:
    await scene.worker()
    job_id = await scene.publish("gate", max_tokens=50)
    await scene.until_type(job_id, EventType.FIRST_TOKEN)
    await scene.producer.cancel(job_id, "no longer needed")
    (cancelled,) = await scene.until_ended(job_id)
    assert cancelled.type is EventType.CANCELLED
    assert cancelled.reason == "no longer needed"
    assert 1 <= cancelled.usage.completion_tokens < 50
    await scene.settle(0.2)
    assert scene.types(job_id).count(EventType.CANCELLED) == 1


async def test_a_job_cancelled_before_it_arrives_is_never_run(scene: Any) -> None:
    worker = await scene.worker()
    job_id = uuid4()
    await scene.producer.cancel(job_id, "changed my mind")
    await scene.settle(0.3)
    await scene.publish("never", job_id=job_id)
    (cancelled,) = await scene.until_ended(job_id)
    assert (cancelled.type, cancelled.reason) == (EventType.CANCELLED, "changed my mind")
    assert worker.engine.seen == []


async def test_cancellations_are_known_before_the_first_job_is_taken(scene: Any) -> None:
    jobs = [await scene.publish("never") for _ in range(20)]
    for job_id in jobs[::2]:
        await scene.producer.cancel(job_id)
    worker = await scene.worker()
    ended = await scene.until_ended(*jobs)
    assert [event.type for event in ended] == [EventType.CANCELLED, EventType.COMPLETED] * 10
    assert len(worker.engine.seen) == 10


async def test_an_ancient_cancellation_is_forgotten(scene: Any) -> None:
    job_id = uuid4()
    ancient = JobControl(job_id=job_id, requested_at=datetime.now(UTC) - timedelta(days=8))
    control = scene.settings.topics.control.name
    await scene.producer._kafka.send_and_wait(control, ancient.to_bytes(), key=b"k")
    await scene.worker()
    await scene.publish(job_id=job_id)
    (ended,) = await scene.until_ended(job_id)
    assert ended.type is EventType.COMPLETED


async def test_cancelling_a_finished_or_unknown_job_changes_nothing(scene: Any) -> None:
    await scene.worker()
    job_id = await scene.publish()
    await scene.until_ended(job_id)
    await scene.producer.cancel(job_id)
    await scene.producer.cancel(uuid4())
    await scene.settle(0.3)
    assert scene.types(job_id)[-1] is EventType.COMPLETED
