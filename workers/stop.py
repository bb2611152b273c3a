"""How a worker is asked to end."""

import asyncio
import logging
import signal

log = logging.getLogger(__name__)


class Stop:
    """The first request drains, the second ends at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.at_once = asyncio.Event()

    def request(self) -> None:
        """Ask once more."""
        if self.drain.is_set():
            self.at_once.set()
        else:
            log.info("draining: running jobs finish, others are left; a second signal ends at once")
            self.drain.set()

    def on_signals(self) -> None:
        """Take SIGTERM and SIGINT as requests from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)
