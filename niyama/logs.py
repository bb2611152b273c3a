"""Logging: its setup, the same for every command, and a throttle for repeated messages."""

import logging
import math
import sys
import threading
import time
import warnings
from collections.abc import Collection
from types import TracebackType
from typing import Annotated, Literal

from pydantic import BeforeValidator

from niyama.log_lines import LineFormatter
from niyama.log_writer import LineHandler, SharedHandler

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
NOTICE_INTERVAL_S = 10.0
"""Between two notices of a state that lasts."""


_NEVER_DEBUG = ("aiokafka.conn", "aiokafka.producer")
"""Their debug messages have what is sent: records with their prompts, credentials."""


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
"""The least severe messages that are logged; upper case is accepted too."""


LogFormat = Annotated[Literal["auto", "text", "json"], BeforeValidator(_lower)]
"""How they are written: auto is text on a terminal, and JSON elsewhere."""


class Throttle:
    """Lets something pass immediately, and then once every NOTICE_INTERVAL_S."""

    def __init__(self) -> None:
        self._next_s = -math.inf

    def allows(self, now_s: float) -> bool:
        """Whether it may pass at `now_s`, on a clock that is the same every time."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + NOTICE_INTERVAL_S
        return True

    def warning(self, log: logging.Logger, message: str, *arguments: object) -> None:
        """Log a warning, unless one was logged here just now."""
        if self.allows(time.monotonic()):
            log.warning(message, *arguments)

    def exception(self, log: logging.Logger, message: str, *arguments: object) -> None:
        """Log an error with the exception being handled, unless one was logged here just now."""
        if self.allows(time.monotonic()):
            log.exception(message, *arguments)

    def filter(self, record: logging.LogRecord) -> bool:
        """Serve as a filter of a logging handler, which then drops most records."""
        return self.allows(record.created)


def configure_logging(
    level: LogLevel,
    log_format: LogFormat = "auto",
    secrets: Collection[str] = (),
    *,
    line_format: str = FORMAT,
) -> None:
    """Log to stderr, messages of `level` and above; `secrets` never. Whoever logs does not wait:
    lines that nobody reads are dropped.

    Warnings of libraries are logged, too. Libraries are quieter, except at debug. aiokafka,
    FastStream and OpenTelemetry repeat their errors for as long as a broker or a collector is
    away: of those, one is logged now and then.
    """
    own = LineHandler()
    own.setFormatter(LineFormatter(line_format if _is_text(log_format) else None, secrets))
    logging.basicConfig(level=level.upper(), handlers=[own], force=True)
    warnings.formatwarning = _warning
    logging.captureWarnings(True)
    if level == "debug":
        for library in _NEVER_DEBUG:
            logging.getLogger(library).setLevel(logging.INFO)
        return
    for library in ("alembic", "sglang", "uvicorn"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    for library in ("aiokafka", "faststream", "opentelemetry"):
        handler = SharedHandler(own)
        handler.addFilter(Throttle())  # of its own: one's errors do not hide another's
        logger = logging.getLogger(library)
        logger.setLevel(logging.ERROR)
        logger.handlers = [handler]
        logger.propagate = False


def log_uncaught_errors() -> None:
    """Log the error that ends this process, or one of its threads."""
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        logging.info("interrupted")
        return
    logging.critical("this process ends by an error", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is not None and not isinstance(uncaught.exc_value, SystemExit):
        logging.critical("a thread ends by an error", exc_info=uncaught.exc_value)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """On one line, without the line of code that Python adds."""
    return f"{category.__name__}: {message} ({filename}:{lineno})"


def _is_text(log_format: LogFormat) -> bool:
    return sys.stderr.isatty() if log_format == "auto" else log_format == "text"
