"""Tokens are buffered briefly, and none is late or lost."""

import asyncio
from typing import Any

import pytest

from schemas import TokenChunk
from workers.engine.port import FinishReason, GenerationUpdate
from workers.execution.token_stream import LINGER_S, TokenStream
from workers.reporting.job_attempt import JobAttempt


class FakeReporter:
    def __init__(self) -> None:
        self.chunks: list[TokenChunk] = []

    def tokens(self, attempt: JobAttempt, chunk: TokenChunk) -> None:
        self.chunks.append(chunk)


class FakeLoop:
    """Virtual time with one timer."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.due: tuple[float, Any, tuple[Any, ...]] | None = None

    def call_later(self, delay_s: float, callback: Any, *args: Any) -> "FakeLoop":
        assert self.due is None
        self.due = (self.now_s + delay_s, callback, args)
        return self

    def cancel(self) -> None:
        self.due = None

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        if self.due and self.due[0] <= self.now_s + 1e-9:
            (_, callback, args), self.due = self.due, None
            callback(*args)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def _update(token: int, finish: FinishReason | None = None) -> GenerationUpdate:
    return GenerationUpdate(f"{token} ", (token,), 1, token + 1, 0, finish)


def test_the_first_token_goes_immediately_and_fast_ones_together(
    loop: FakeLoop, attempt: JobAttempt
) -> None:
    reporter = FakeReporter()
    stream = TokenStream(reporter, attempt, lambda: loop.now_s)  # type: ignore[arg-type]
    stream.add(_update(0))
    assert [chunk.token_ids for chunk in reporter.chunks] == [[0]]
    for token in (1, 2, 3):
        loop.advance(LINGER_S / 10)
        stream.add(_update(token))
    assert len(reporter.chunks) == 1
    loop.advance(LINGER_S)
    assert [chunk.token_ids for chunk in reporter.chunks] == [[0], [1, 2, 3]]
    assert reporter.chunks[1].index == 1


def test_slow_tokens_are_not_delayed(loop: FakeLoop, attempt: JobAttempt) -> None:
    reporter = FakeReporter()
    stream = TokenStream(reporter, attempt, lambda: loop.now_s)  # type: ignore[arg-type]
    for token in range(4):
        loop.advance(LINGER_S)
        stream.add(_update(token))
        assert reporter.chunks[-1].token_ids == [token]


def test_the_end_goes_immediately_and_nothing_follows(loop: FakeLoop, attempt: JobAttempt) -> None:
    reporter = FakeReporter()
    stream = TokenStream(reporter, attempt, lambda: loop.now_s)  # type: ignore[arg-type]
    stream.add(_update(0))
    stream.add(_update(1))
    stream.add(_update(2, FinishReason.STOP))
    assert [(chunk.text, chunk.finish_reason) for chunk in reporter.chunks] == [
        ("0 ", None),
        ("1 2 ", "stop"),
    ]
    assert loop.due is None
