"""How a worker is asked to stop, and what each step of stopping may take."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

SHUTDOWN_STEP_S = 10.0
"""The time limit of each shutdown step when Kafka does not answer."""


class Stop:
    """The first request drains, the second stops immediately."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.immediate = asyncio.Event()

    def request(self) -> None:
        """Ask once more."""
        if self.drain.is_set():
            self.immediate.set()
        else:
            log.info(
                "draining: running jobs finish, waiting ones are left to other workers; "
                "a second signal stops immediately"
            )
            self.drain.set()

    def on_signals(self) -> None:
        """Treat SIGTERM and SIGINT as requests from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)


async def shutdown_step(step: Callable[[], Awaitable[None]]) -> None:
    """Flush, commit or disconnect if Kafka allows it in time; nothing is lost when it does not."""
    with suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(step(), SHUTDOWN_STEP_S)
