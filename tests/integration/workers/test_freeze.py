"""A worker that was frozen for longer than its session has nothing more to say."""

import signal
from uuid import UUID

import pytest

from schemas import EventType
from tests.integration.workers.test_crash import MAIN, _process
from tests.support.workers import Harness


@pytest.fixture
def session_timeout_s() -> int:
    """The least that brokers allow: the test waits for the end of a frozen worker's."""
    return 6


async def test_the_late_work_of_a_frozen_worker_is_refused(harness: Harness) -> None:
    pace = ("--null-token-delay-ms", "100")
    with (
        _process(harness.settings, MAIN, *pace) as frozen,
        _process(harness.settings, MAIN, *pace) as other,
    ):
        while len(_workers(harness)) < 2:  # both have partitions
            await harness.until_ended(await harness.publish(max_tokens=1))
        jobs = [await harness.publish(max_tokens=20) for _ in range(20)]
        running = f"-{frozen.pid}-"
        await harness.until(
            lambda: any(running in worker for worker in _workers(harness, *jobs)),
            "a job on the worker that is going to freeze",
        )
        frozen.send_signal(signal.SIGSTOP)
        # Only the other one can end them, once it has the partitions of both.
        await harness.until_ended(*jobs)
        before = _ends_on(harness, running)
        frozen.send_signal(signal.SIGCONT)
        late = [await harness.publish(max_tokens=1) for _ in range(6)]
        await harness.until_ended(*late)
        frozen.send_signal(signal.SIGTERM)
        assert frozen.wait(60) == 0  # it has sent what it had to send
        await harness.settle(0.2)
        assert _ends_on(harness, running) & set(jobs) == before & set(jobs)
        other.send_signal(signal.SIGTERM)
        assert other.wait(60) == 0


def _workers(harness: Harness, *jobs: UUID) -> set[str]:
    """Those that have started one of `jobs`, or any job."""
    started = [event for event in harness.events if event.type is EventType.STARTED]
    return {event.worker_id for event in started if not jobs or event.job_id in jobs}


def _ends_on(harness: Harness, worker: str) -> set[UUID]:
    """Jobs whose end was reported by this worker."""
    ends = [event for event in harness.events if event.type.is_terminal]
    return {event.job_id for event in ends if worker in event.worker_id}
