import asyncio

import pytest

from niyama.waiting import is_set_within
from tests.support.virtual_time import run_in_virtual_time


def test_it_returns_when_the_event_is_set() -> None:
    async def main() -> float:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.call_later(3, event.set)
        assert await is_set_within(event, 10)
        return loop.time()

    assert run_in_virtual_time(main()) == pytest.approx(3)


def test_it_gives_up_in_time() -> None:
    async def main() -> float:
        assert not await is_set_within(asyncio.Event(), 10)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(10)


def test_an_event_that_is_set_needs_no_time() -> None:
    async def main() -> bool:
        event = asyncio.Event()
        event.set()
        return await is_set_within(event, 0)

    assert run_in_virtual_time(main())


def test_a_cancellation_is_not_lost_when_the_event_comes_with_it() -> None:
    async def main() -> None:
        event = asyncio.Event()
        waiter = asyncio.create_task(is_set_within(event, 10))
        await asyncio.sleep(1)
        event.set()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run_in_virtual_time(main())
