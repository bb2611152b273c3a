"""Lines of the log that nobody reads: logging goes on, and says what is missing."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from niyama import log_writer
from niyama.log_writer import LineHandler

FULL_BYTES = 65_536
"""Of a pipe, on Linux."""


@dataclass(frozen=True, slots=True)
class Log:
    handler: LineHandler
    reader: int
    """A pipe's end, to be read."""

    def line(self, text: str) -> None:
        self.handler.handle(logging.makeLogRecord({"msg": text}))

    def read(self, count: int) -> list[str]:
        """So many lines, when they are written."""
        read = b""
        while read.count(b"\n") < count:
            read += os.read(self.reader, FULL_BYTES).lstrip(b"\0")
        return read.decode().splitlines()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Whose pipe is full: nobody reads it."""
    monkeypatch.setattr(log_writer, "MAX_WAITING_BYTES", 1_000)
    monkeypatch.setattr(log_writer, "FLUSH_LIMIT_S", 60.0)
    reader, writer = os.pipe()
    monkeypatch.setattr(log_writer, "STDERR", writer)
    os.write(writer, bytes(FULL_BYTES))
    handler = LineHandler()
    yield Log(handler, reader)
    handler.close()
    os.close(reader)  # whoever still writes gets an error
    os.close(writer)


def test_what_waits_is_bounded_and_what_was_dropped_is_counted(log: Log) -> None:
    for number in range(30):
        log.line(f"{number:099}")  # 100 bytes
    assert [int(line) for line in log.read(10)] == list(range(10))
    log.handler.flush()
    log.line("again")
    about_dropped, after = log.read(2)
    assert about_dropped.startswith("20 lines of the log were dropped")
    assert after == "again"


def test_a_process_that_ends_waits_only_so_long_for_who_reads_its_log(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "FLUSH_LIMIT_S", 0.01)
    log.line("last words")
    log.handler.flush()
    assert log.read(1) == ["last words"]
