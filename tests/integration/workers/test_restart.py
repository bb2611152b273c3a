"""Finished jobs stay finished, the others run again, on whichever worker."""

from schemas import EventType
from tests.support.workers import Harness


async def test_a_restart_does_only_what_is_unfinished(harness: Harness) -> None:
    """Five jobs of one partition; the second hangs, the rest finish around it."""
    first = await harness.worker()
    stuck = None
    finished = []
    for number in range(5):
        job_id = await harness.publish("gate" if number == 1 else "hello", "chat")
        if number == 1:
            stuck = job_id
        else:
            finished.append(job_id)
    await harness.until_ended(*finished)
    await harness.until_type(stuck, EventType.FIRST_TOKEN)
    await first.stop_immediately()
    assert harness.ended(stuck) is None

    second = await harness.worker()
    second.engine.gates["gate"].set()
    (completed,) = await harness.until_ended(stuck)
    assert completed.attempt == 2
    assert EventType.RETRIED in harness.types(stuck)
    await harness.settle(0.3)
    assert second.engine.seen == ["gate"]
    assert all(harness.types(job_id).count(EventType.COMPLETED) == 1 for job_id in finished)


async def test_draining_finishes_running_jobs_and_leaves_waiting_ones(harness: Harness) -> None:
    worker = await harness.worker()
    running = await harness.publish("gate")
    waiting = await harness.publish("unstarted")
    await harness.until_type(running, EventType.FIRST_TOKEN)
    await harness.until_type(waiting, EventType.ADMITTED)
    worker.stop.request()
    late = await harness.publish("late")
    await harness.settle(0.3)
    assert not worker.task.done()
    worker.engine.gates["gate"].set()
    await harness.until_ended(running)
    await worker.task
    assert harness.types(waiting) == [EventType.ADMITTED]
    assert harness.types(late) == []

    other = await harness.worker()
    other.engine.gates["unstarted"].set()
    ended = await harness.until_ended(waiting, late)
    # It had not started, so there was no earlier attempt.
    assert [(event.type, event.attempt) for event in ended] == [(EventType.COMPLETED, 1)] * 2
    assert harness.types(running).count(EventType.COMPLETED) == 1


async def test_the_drain_limit_leaves_long_jobs_to_others(harness: Harness) -> None:
    worker = await harness.worker(drain_limit_s=0.2)
    long = await harness.publish("gate")
    await harness.until_type(long, EventType.FIRST_TOKEN)
    await worker.drain()
    assert harness.ended(long) is None
    other = await harness.worker()
    other.engine.gates["gate"].set()
    (completed,) = await harness.until_ended(long)
    assert (completed.type, completed.attempt) == (EventType.COMPLETED, 2)


async def test_moving_a_job_often_is_no_reason_to_give_it_up(harness: Harness) -> None:
    """Only workers that die count against a job, not those that leave."""
    job_id = await harness.publish("gate")
    for attempt in (1, 2, 3, 4):
        worker = await harness.worker(max_attempts=2)
        await harness.until(
            lambda n=attempt: any(
                e.type is EventType.FIRST_TOKEN and e.attempt == n
                for e in harness.events_of(job_id)
            ),
            "the next attempt",
        )
        await worker.stop_immediately()
    worker = await harness.worker(max_attempts=2)
    worker.engine.gates["gate"].set()
    (completed,) = await harness.until_ended(job_id)
    assert (completed.type, completed.attempt) == (EventType.COMPLETED, 5)
