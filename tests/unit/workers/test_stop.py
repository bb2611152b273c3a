"""How a worker is asked to stop."""

import asyncio

import pytest

from workers.stop import Stop


async def test_what_takes_long_is_cancelled_when_a_stop_is_requested() -> None:
    stop, cancelled = Stop(), asyncio.Event()

    async def start() -> str:
        stop.request()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "started"

    assert await stop.unless_asked(start()) is None
    assert cancelled.is_set()


async def test_what_nobody_stops_has_its_result_or_its_error() -> None:
    async def start() -> str:
        return "started"

    async def fail() -> str:
        raise ValueError("no Kafka")

    assert await Stop().unless_asked(start()) == "started"
    with pytest.raises(ValueError, match="no Kafka"):
        await Stop().unless_asked(fail())
