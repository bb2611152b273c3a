"""What the worker's unit tests share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from schemas.event import Source
from workers.reporting.reporter import Subject


@dataclass
class FakeRecord:
    """A Kafka record in memory."""

    value: bytes | None = b""
    topic: str = "niyama.default.interactive"
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_000_000
    key: bytes | None = b"key"
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class FakeOutbox:
    """Keeps what is put; the test delivers."""

    records: list[tuple[str, Any]] = field(default_factory=list)
    full: bool = False

    def put(self, topic: str, record: Any) -> None:
        self.records.append((topic, record))


@pytest.fixture
def record() -> Callable[..., FakeRecord]:
    return FakeRecord


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


@pytest.fixture
def subject() -> Subject:
    return Subject(uuid4(), 1, Source(topic="t", partition=0, offset=0))


@pytest.fixture
def job_bytes() -> Callable[..., bytes]:
    def make(**fields: Any) -> bytes:
        return json.dumps({"model": "m", "qos": "chat", "prompt": "hi"} | fields).encode()

    return make
