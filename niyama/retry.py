"""Trying again what fails for a while, such as a broker or a database that is not up yet."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from niyama.logs import Throttle

RETRY_INTERVAL_S = 0.5

T = TypeVar("T")


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *transient: type[Exception],
    notice: str,
    log: logging.Logger,
) -> T:
    """Return what `attempt` returns, retrying it after every `transient` error.

    Meanwhile `notice`, with the last error, is logged now and then. Other errors are raised.
    """
    throttle = Throttle()
    while True:
        try:
            return await attempt()
        except transient as error:
            throttle.warning(log, "%s: %r", notice, error)
        await asyncio.sleep(RETRY_INTERVAL_S)
