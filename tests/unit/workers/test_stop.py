"""How a worker ends."""

import asyncio
import subprocess
import sys

import pytest

from workers.stop import Stop

HANGS = """
import threading
from workers.stop import exit_within
threading.Thread(target=threading.Event().wait).start()
exit_within(0.1)
"""


def test_a_process_ends_in_time_although_one_of_its_threads_hangs() -> None:
    run = subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False)
    assert run.returncode == 1


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
