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
