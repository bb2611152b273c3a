"""Waiting for something, but not forever."""

import asyncio


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event` for at most `seconds`. Returns whether it is set.

    `asyncio.wait_for` would need a task of its own, and in Python 3.11 it may lose a
    cancellation that comes when the event does.
    """
    if not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
    return event.is_set()


class Turns:
    """Lets everything else in this process have its turn during work that takes long."""

    def __init__(self, at_once: int) -> None:
        """After so much work, in units of the caller's."""
        self._at_once = at_once
        self._done = 0

    async def after(self, work: int) -> None:
        """Call it whenever so much has been done."""
        self._done += work
        if self._done >= self._at_once:
            self._done = 0
            await asyncio.sleep(0)
