"""Waiting for a job to end: woken by this gateway's ledger, by another's, by the gateway's end."""

import asyncio
from collections.abc import AsyncIterator, Collection
from uuid import UUID, uuid4

import pytest

from gateway.api import followers as module
from gateway.api.followers import Followers

LONG_S = 3600.0
RECENT = {uuid4()}
"""A job that was published a moment ago."""


class Ledger:
    """What the ledger knows, which is every job but the unknown ones; it notes what it is asked."""

    def __init__(self) -> None:
        self.ended: set[UUID] = set()
        self.unknown: set[UUID] = set()
        self.asked: list[Collection[UUID]] = []
        self.error: Exception | None = None

    async def not_open(self, job_ids: Collection[UUID]) -> dict[UUID, bool]:
        self.asked.append(set(job_ids))
        if self.error is not None:
            raise self.error
        ended = self.ended - self.unknown
        return {each: each in ended for each in job_ids if each in ended | self.unknown}


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
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0)
    monkeypatch.setattr(module, "TICK_S", 0)
    return Followers(ledger.not_open, RECENT.__contains__, stopping, readers=1)


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
    for _ in range(5):
        await asyncio.sleep(0)
    asked = len(ledger.asked)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(ledger.asked) == asked

    (task,) = await waiting(followers, job_id)  # and it starts again
    ledger.ended = {job_id}
    await task


async def test_newcomers_are_looked_up_before_the_next_question_about_all(
    followers: Followers, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_INTERVAL_S", LONG_S)
    first, second = uuid4(), uuid4()
    ledger.ended = {second}
    tasks = await waiting(followers, first)
    while not ledger.asked:
        await asyncio.sleep(0)

    await followers.wait(second, LONG_S)

    assert ledger.asked == [{first}, {second}]
    followers.wake((first,))
    await asyncio.gather(*tasks)


async def test_nobody_waits_for_a_job_that_is_not_known_unless_it_is_recent(
    followers: Followers, ledger: Ledger
) -> None:
    (recent,), unknown = RECENT, uuid4()
    ledger.unknown = {recent, unknown}
    (task,) = await waiting(followers, recent)

    await followers.wait(unknown, LONG_S)

    assert not task.done()
    ledger.unknown, ledger.ended = set(), {recent}
    await task


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


async def test_those_who_are_woken_together_read_in_turns(
    followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_TIMEOUT_S", 0.001)

    async with followers.turn():
        with pytest.raises(TimeoutError):
            async with followers.turn():
                pytest.fail("two at a time")
    async with followers.turn():
        pass
