"""How a process ends that hangs, or may hang while it ends."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

EXIT_LIMIT_S = 30.0
"""How long a worker's engine may take to close, and the process to end after that."""
LAST_WORDS_LIMIT_S = 5.0
"""How long a process that hangs may take to say where."""


def exit_within(limit_s: float = EXIT_LIMIT_S) -> None:
    """End this process in `limit_s` at the latest, whatever hangs in it by then: a thread that the
    interpreter waits for, or a child that even the kernel cannot kill."""
    timer = threading.Timer(limit_s, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


def end_process(reason: str) -> NoReturn:
    """End this process, which hangs, now: the kernel does it, and nothing else is waited for.

    The log says why, and where each thread is. What hangs may be the log itself, so the end is
    certain before anything is said. (`faulthandler` is no help: while it waits for who reads
    stderr, no other thread can run.)
    """
    exit_within(LAST_WORDS_LIMIT_S)
    log.critical("%s: this process ends", reason)
    for line in _stacks():
        log.critical("%s", line)
    logging.shutdown()
    os._exit(1)


def _stacks() -> Iterator[str]:
    """Where each thread is, the innermost call first."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        calls = " < ".join(_calls(frames.get(thread.ident or 0)))
        yield f"thread {thread.name}: {calls}"


def _calls(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        code = frame.f_code
        yield f"{code.co_qualname} ({Path(code.co_filename).name}:{frame.f_lineno})"
        frame = frame.f_back
