"""Waiting for a job to end: woken by this gateway's ledger, by another's, by the gateway's end."""

import asyncio
from collections.abc import AsyncIterator, Collection
from uuid import UUID, uuid4

import pytest

from gateway.api import followers as module
from gateway.api.followers import Followers

LONG_S = 3600.0


class Ledger:
    """What the ledger knows; it counts how often it is asked."""

    def __init__(self) -> None:
        self.ended: set[UUID] = set()
        self.asked: list[Collection[UUID]] = []
        self.error: Exception | None = None

    async def ended_among(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        self.asked.append(job_ids)
        if self.error is not None:
            raise self.error
        return self.ended & set(job_ids)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def stopping() -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    yield stopping
    stopping.set()


@pytest.fixture
def followers(
    ledger: Ledger, stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> Followers:
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0.001)
    return Followers(ledger.ended_among, stopping)


async def waiting(followers: Followers, *job_ids: UUID) -> list[asyncio.Task[None]]:
    """Tasks that wait by now."""
    tasks = [asyncio.create_task(followers.wait(job_id, LONG_S)) for job_id in job_ids]
    await asyncio.sleep(0)
    return tasks


async def test_the_consumer_wakes_the_followers_of_the_jobs_that_it_ended(
    followers: Followers,
) -> None:
    one, other = uuid4(), uuid4()
    first, second, third = await waiting(followers, one, one, other)

    followers.wake((one, uuid4()))
    await asyncio.gather(first, second)

    assert not third.done()
    third.cancel()


async def test_jobs_that_another_gateway_ended_are_found_with_one_query_for_all(
    followers: Followers, ledger: Ledger
) -> None:
    jobs = [uuid4() for _ in range(100)]
    tasks = await waiting(followers, *jobs)

    ledger.ended = set(jobs)
    await asyncio.gather(*tasks)

    assert all(set(asked) == set(jobs) for asked in ledger.asked)


async def test_nobody_is_asked_while_nobody_waits(followers: Followers, ledger: Ledger) -> None:
    job_id = uuid4()
    (task,) = await waiting(followers, job_id)
    followers.wake((job_id,))
    await task
    while followers._polling and not followers._polling.done():
        await asyncio.sleep(0)
    asked = len(ledger.asked)

    (task,) = await waiting(followers, job_id)  # and it starts again
    ledger.ended = {job_id}
    await task

    assert asked <= 1
    assert len(ledger.asked) > asked


async def test_a_follower_waits_no_longer_than_it_wants(followers: Followers) -> None:
    await followers.wait(uuid4(), 0.001)


async def test_an_outage_wakes_nobody_and_is_survived(followers: Followers, ledger: Ledger) -> None:
    job_id = uuid4()
    ledger.error = ConnectionResetError("reset")
    (task,) = await waiting(followers, job_id)
    while len(ledger.asked) < 3:
        await asyncio.sleep(0)
    assert not task.done()

    ledger.error, ledger.ended = None, {job_id}

    await task


async def test_the_end_of_the_gateway_wakes_everybody(
    followers: Followers, stopping: asyncio.Event
) -> None:
    tasks = await waiting(followers, uuid4(), uuid4())

    stopping.set()

    await asyncio.gather(*tasks)
    await followers.wait(uuid4(), LONG_S)


async def test_who_comes_when_too_many_wait_does_not_wait(
    followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FOLLOWERS", 2)
    job_id = uuid4()
    tasks = await waiting(followers, job_id, job_id)

    await followers.wait(job_id, LONG_S)

    assert not any(task.done() for task in tasks)
    followers.wake((job_id,))
    await asyncio.gather(*tasks)
