"""This process's logging: as it was before a test set it up, and what it wrote."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LIBRARIES = (
    "aiokafka", "aiokafka.conn", "aiokafka.producer", "alembic", "faststream", "opentelemetry",
    "sglang", "uvicorn", "uvicorn.error",
)  # fmt: skip


@contextmanager
def restored_logging() -> Iterator[None]:
    """Inside, loggers of libraries are as in a fresh process; afterwards all are as before."""
    hooks = sys.excepthook, threading.excepthook, warnings.formatwarning
    loggers = [logging.getLogger(name) for name in (None, *LIBRARIES)]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    for each in loggers[1:]:
        each.setLevel(logging.NOTSET)
        each.handlers, each.propagate = [], True
    logging.captureWarnings(False)  # an earlier test may have left it on
    try:
        yield
    finally:
        logging.captureWarnings(False)
        sys.excepthook, threading.excepthook, warnings.formatwarning = hooks
        for each, level, handlers, propagate in before:
            each.setLevel(level)
            each.handlers = handlers
            each.propagate = propagate


def logged(captured: pytest.CaptureFixture[str]) -> str:
    """What this process has written to its log, according to `capfd`."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return captured.readouterr().err
