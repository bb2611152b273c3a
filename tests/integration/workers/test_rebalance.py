"""Workers come and go: nothing is lost, and only jobs whose partition moved run again."""

import asyncio
from collections import Counter
from uuid import UUID

from schemas import EventType
from tests.support.workers import Harness


async def test_running_jobs_survive_a_rebalance_and_moved_ones_are_done_by_the_newcomer(
    harness: Harness,
) -> None:
    first = await harness.worker()
    # By these ids, some jobs are in each partition.
    jobs = [await harness.publish("gate", job_id=UUID(int=number)) for number in range(24)]
    await harness.until(lambda: len(first.engine.seen) == 24, "all jobs to run")
    second = await harness.worker()
    await harness.until(lambda: second.engine.seen, "the newcomer to get its share")
    for worker in (first, second):
        worker.engine.gates["gate"].set()
    ended = await harness.until_ended(*jobs)
    moved = len(second.engine.seen)
    assert 0 < moved < 24
    assert len(first.engine.seen) == 24  # nothing was started again where it was
    assert Counter(event.attempt for event in ended) == {1: 24 - moved, 2: moved}
    await harness.settle(0.3)
    completions = Counter(e.job_id for e in harness.events if e.type is EventType.COMPLETED)
    assert set(completions.values()) == {1}


async def test_a_worker_that_leaves_gives_its_unfinished_jobs_to_the_other(
    harness: Harness,
) -> None:
    workers = [await harness.worker(), await harness.worker()]
    jobs = [await harness.publish("gate") for _ in range(20)]
    await harness.until(lambda: sum(len(w.engine.seen) for w in workers) == 20, "all jobs to run")
    await workers[0].stop_immediately()
    workers[1].engine.gates["gate"].set()
    ended = await harness.until_ended(*jobs)
    assert all(event.type is EventType.COMPLETED for event in ended)


async def test_three_workers_coming_and_going_under_load_lose_nothing(harness: Harness) -> None:
    jobs = []

    async def publish() -> None:
        for number in range(400):
            jobs.append(await harness.publish("hello", "chat" if number % 2 else "q2"))
            await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    first = await harness.worker()
    second = await harness.worker()
    await harness.settle(0.5)
    third = await harness.worker()
    await first.drain()
    await second.stop_immediately()
    await harness.worker()
    await publishing
    await third.drain()
    ended = await harness.until_ended(*jobs)
    assert len(ended) == 400
    completions = Counter(e.job_id for e in harness.events if e.type is EventType.COMPLETED)
    repeated = sum(count - 1 for count in completions.values())
    # A job is repeated only when its partition moved between its end and the next commit.
    assert repeated <= 20
