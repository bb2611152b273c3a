"""How a worker is asked to stop, and how long each shutdown step may take."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

T = TypeVar("T")

SHUTDOWN_STEP_S = 10.0
"""The time limit of each shutdown step when Kafka does not answer."""


class Stop:
    """The first request drains, the second stops immediately."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.immediate = asyncio.Event()

    def request(self) -> None:
        """Record a stop request."""
        if self.drain.is_set():
            self.immediate.set()
        else:
            log.info(
                "draining: running jobs finish, waiting ones are left to other workers; "
                "a second signal stops immediately"
            )
            self.drain.set()

    async def unless_asked(self, work: Coroutine[object, object, T]) -> T | None:
        """The result of `work`; None, with the work cancelled, when a stop is requested first."""
        waiting, working = asyncio.create_task(self.drain.wait()), asyncio.create_task(work)
        try:
            await asyncio.wait([waiting, working], return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            waiting.cancel()
            working.cancel()
            await asyncio.gather(waiting, working, return_exceptions=True)

    def on_signals(self) -> None:
        """Treat SIGTERM and SIGINT as stop requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)


async def shutdown_step(step: Callable[[], Awaitable[object]]) -> None:
    """Run one step: a flush, a commit or a disconnect. Nothing is lost when Kafka does not answer
    in time: the step is given up."""
    with suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(step(), SHUTDOWN_STEP_S)
