"""Warnings about a state that lasts: said at once, then now and then."""

import logging
import time

log = logging.getLogger(__name__)

INTERVAL_S = 10.0


class Notices:
    """Lets one warning through every INTERVAL_S."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def warn(self, message: str, *arguments: object) -> None:
        """Log, unless something was logged here just now."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + INTERVAL_S
            log.warning(message, *arguments)
