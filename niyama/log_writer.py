"""Lines of the log on their way to stderr, which nothing waits for.

Whoever reads stderr may stop: a log shipper that hangs, a pager, Ctrl-S in a terminal. The pipe is
full soon, and whoever writes to it then waits: the event loop, every thread that logs, and the one
that would end a process that hangs.
"""

import logging
import os
import threading
from contextlib import suppress
from queue import SimpleQueue

STDERR = 2
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Of lines that nobody reads; what comes then is dropped, and counted."""
FLUSH_LIMIT_S = 1.0
"""How long a process that ends waits for who reads its log."""


class LineHandler(logging.Handler):
    """Writes lines to stderr in a thread of its own. Logging takes no time and never waits.

    May be used in signal handlers, too: its lock and its queue are reentrant.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        """An event is set once everything before it is written; None ends the writer."""
        self._writer: threading.Thread | None = None
        self._put_bytes = 0
        self._written_bytes = 0
        """Counted by the writer alone, as the other one is by who has this handler's lock."""
        self._dropped = 0
        """Lines since the last one that there was room for."""

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record's line in the queue, if there is room."""
        try:
            line = self._line(record)
            room = MAX_WAITING_BYTES - (self._put_bytes - self._written_bytes)
            # Once there was none: much room, or every other line would be about dropped ones.
            if room < (MAX_WAITING_BYTES // 2 if self._dropped else len(line)):
                self._dropped += 1
                return
            if self._dropped:
                self._put(self._line(_about_dropped(self._dropped)))
                self._dropped = 0
            self._put(line)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Return when every line so far is written, within FLUSH_LIMIT_S in any case."""
        if self._writer is None:
            return
        written = threading.Event()
        self._lines.put(written)
        written.wait(FLUSH_LIMIT_S)

    def close(self) -> None:
        """End the thread once it has written everything. Nothing is waited for."""
        self._lines.put(None)
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _put(self, line: bytes) -> None:
        self._put_bytes += len(line)
        self._lines.put(line)
        if self._writer is None or not self._writer.is_alive():  # a fork has none
            self._writer = threading.Thread(target=self._write, name="log-writer", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
                continue
            with suppress(OSError):  # stderr was closed
                _write_all(line)
            self._written_bytes += len(line)


class SharedHandler(logging.Handler):
    """Hands records on to another handler, after filters of its own."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        """As the other handler does."""
        self._handler.handle(record)


def _write_all(line: bytes) -> None:
    """Past `sys.stderr`, whose lock a process that ends would wait for."""
    while line:
        line = line[os.write(STDERR, line) :]


def _about_dropped(lines: int) -> logging.LogRecord:
    """That so many are missing here."""
    return logging.LogRecord(
        *(__name__, logging.WARNING, __file__, 0),
        "%d lines of the log were dropped: nobody has read them in time",
        (lines,),
        None,
    )
