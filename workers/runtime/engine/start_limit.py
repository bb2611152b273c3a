"""Loading a model blocks the event loop for minutes: not silently, and not forever."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from niyama.ending import end_process
from workers.engine.port import EngineStartError

log = logging.getLogger(__name__)

_NOTICE_S = 60.0
_UNWIND_S = 60.0
"""For killing what SGLang has started by then."""


@contextmanager
def start_limit(
    limit_s: float, *, unwind_s: float = _UNWIND_S, end: Callable[[str], None] = end_process
) -> Iterator[None]:
    """Raise EngineStartError, inside the context, once it has taken `limit_s`.

    `end` is called, with the reason, when the context is not left within `unwind_s` of that:
    something has caught the error. SGLang's processes follow this one. A notice is logged every
    minute. Only the main thread can use it: it waits for SIGALRM, which reaches this process
    whatever SGLang waits for.
    """
    started_s = time.monotonic()
    raised = False

    def on_alarm(signum: int, frame: Any) -> None:
        nonlocal raised
        so_far_s = time.monotonic() - started_s
        if raised:
            end(f"SGLang is still starting after {so_far_s:.0f} s, past its limit")
        elif so_far_s >= limit_s:
            raised = True
            signal.setitimer(signal.ITIMER_REAL, unwind_s)
            raise too_long(limit_s)
        else:
            log.info("SGLang has been starting for %.0f s", so_far_s)
            signal.setitimer(signal.ITIMER_REAL, min(_NOTICE_S, limit_s - so_far_s))

    before = signal.signal(signal.SIGALRM, on_alarm)
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
