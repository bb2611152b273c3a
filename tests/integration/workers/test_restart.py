"""What is finished stays finished, what is not is done again, whoever does it."""

from typing import Any

from schemas import EventType


async def test_a_restart_does_only_what_is_unfinished(scene: Any) -> None:
    """Five jobs of one partition; the second hangs, the rest finish around it."""
    first = await scene.worker()
    stuck = None
    finished = []
    for number in range(5):
        job_id = await scene.publish("gate" if number == 1 else "hello", "chat")
        if number == 1:
            stuck = job_id
        else:
            finished.append(job_id)
    await scene.until_ended(*finished)
    await scene.until_type(stuck, EventType.FIRST_TOKEN)
    await first.end_at_once()
    assert scene.ended(stuck) is None

    second = await scene.worker()
    second.engine.gates["gate"].set()
    (completed,) = await scene.until_ended(stuck)
    assert completed.attempt == 2
    assert EventType.RETRIED in scene.types(stuck)
    await scene.settle(0.3)
    assert second.engine.seen == ["gate"]
    assert all(scene.types(job_id).count(EventType.COMPLETED) == 1 for job_id in finished)


async def test_draining_finishes_running_jobs_and_leaves_waiting_ones(scene: Any) -> None:
    worker = await scene.worker()
    running = await scene.publish("gate")
    waiting = await scene.publish("unstarted")
    await scene.until_type(running, EventType.FIRST_TOKEN)
    await scene.until_type(waiting, EventType.ADMITTED)
    worker.stop.request()
    late = await scene.publish("late")
    await scene.settle(0.3)
    assert not worker.task.done()
    worker.engine.gates["gate"].set()
    await scene.until_ended(running)
    await worker.task
    assert scene.types(waiting) == [EventType.ADMITTED]
    assert scene.types(late) == []

    other = await scene.worker()
    other.engine.gates["unstarted"].set()
    ended = await scene.until_ended(waiting, late)
    # It had not begun, so nothing was tried before.
    assert [(event.type, event.attempt) for event in ended] == [(EventType.COMPLETED, 1)] * 2
    assert scene.types(running).count(EventType.COMPLETED) == 1


async def test_the_drain_limit_leaves_long_jobs_to_others(scene: Any) -> None:
    worker = await scene.worker(drain_limit_s=0.2)
    long = await scene.publish("gate")
    await scene.until_type(long, EventType.FIRST_TOKEN)
    await worker.drain()
    assert scene.ended(long) is None
    other = await scene.worker()
    other.engine.gates["gate"].set()
    (completed,) = await scene.until_ended(long)
    assert (completed.type, completed.attempt) == (EventType.COMPLETED, 2)


async def test_moving_a_job_often_is_no_reason_to_give_it_up(scene: Any) -> None:
    """Only workers that die count against a job, not those that leave."""
    job_id = await scene.publish("gate")
    for attempt in (1, 2, 3, 4):
        worker = await scene.worker(max_attempts=2)
        await scene.until(
            lambda n=attempt: any(
                e.type is EventType.FIRST_TOKEN and e.attempt == n for e in scene.of(job_id)
            ),
            "the next attempt",
        )
        await worker.end_at_once()
    worker = await scene.worker(max_attempts=2)
    worker.engine.gates["gate"].set()
    (completed,) = await scene.until_ended(job_id)
    assert (completed.type, completed.attempt) == (EventType.COMPLETED, 5)
