"""Loading a model blocks the event loop for minutes: not silently, and not for ever."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workers.engine.port import EngineStartError

log = logging.getLogger(__name__)

_NOTICE_S = 60.0


@contextmanager
def start_limit(limit_s: float) -> Iterator[None]:
    """Raise EngineStartError, inside the context, once it has taken `limit_s`.

    A notice is logged every minute. Only the main thread can use it: it waits for SIGALRM, which
    reaches this process whatever SGLang waits for.
    """
    started_s = time.monotonic()

    def rung(signum: int, frame: Any) -> None:
        so_far_s = time.monotonic() - started_s
        if so_far_s >= limit_s:
            raise too_long(limit_s)
        log.info("SGLang has been starting for %.0f s", so_far_s)
        signal.setitimer(signal.ITIMER_REAL, min(_NOTICE_S, limit_s - so_far_s))

    before = signal.signal(signal.SIGALRM, rung)
    signal.setitimer(signal.ITIMER_REAL, min(_NOTICE_S, limit_s))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def too_long(limit_s: float) -> EngineStartError:
    return EngineStartError(
        f"SGLang did not start within {limit_s:g} s; if the model only takes long to load, raise "
        "--start-limit-s (NIYAMA_START_LIMIT_S)"
    )
