"""No start is waited for forever."""

import signal
import threading
from contextlib import suppress

import pytest

from workers.engine.port import EngineStartError
from workers.runtime.engine.start_limit import start_limit


def test_a_start_that_takes_too_long_is_interrupted_wherever_it_waits() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(EngineStartError, match=r"--start-limit-s"), start_limit(0.05):
        threading.Event().wait(30)
    assert signal.getsignal(signal.SIGALRM) is before


class _Ended(BaseException):
    """The process would end here."""


def _end(reason: str) -> None:
    raise _Ended(reason)


def test_a_start_that_swallows_the_error_and_goes_on_ends_the_process() -> None:
    def start() -> None:
        with suppress(Exception):
            threading.Event().wait(30)
        threading.Event().wait(30)

    with pytest.raises(_Ended, match="past its limit"), start_limit(0.05, unwind_s=0.05, end=_end):
        start()


def test_a_start_in_time_leaves_no_alarm() -> None:
    with start_limit(0.05):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
