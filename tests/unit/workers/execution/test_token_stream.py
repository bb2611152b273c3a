"""Tokens are buffered briefly, and none is late or lost."""

import asyncio
from collections.abc import Callable

import pytest

from schemas import TokenChunk
from tests.support.senders import FakeSender
from workers.engine.port import FinishReason, GenerationUpdate
from workers.execution.token_stream import LINGER_S, TokenStream
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter


class FakeLoop:
    """Virtual time with one timer."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.offset_s = 0.0
        """Of the wall clock."""
        self.due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now_s

    def call_later(
        self, delay_s: float, callback: Callable[..., None], *args: object
    ) -> "FakeLoop":
        assert self.due is None
        self.due = (self.now_s + delay_s, lambda: callback(*args))
        return self

    def cancel(self) -> None:
        self.due = None

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        if self.due and self.due[0] <= self.now_s + 1e-9:
            (_, callback), self.due = self.due, None
            callback()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def stream(reporter: Reporter, attempt: JobAttempt, loop: FakeLoop) -> TokenStream:
    return TokenStream(reporter, attempt, lambda: loop.now_s + loop.offset_s)


def _update(token: int, finish: FinishReason | None = None) -> GenerationUpdate:
    return GenerationUpdate(f"{token} ", (token,), 1, token + 1, 0, finish)


def _chunks(sender: FakeSender) -> list[TokenChunk]:
    return [TokenChunk.model_validate_json(value) for value in sender.values()]


def test_the_first_token_goes_immediately_and_fast_ones_together(
    stream: TokenStream, sender: FakeSender, loop: FakeLoop
) -> None:
    stream.add(_update(0))
    assert [chunk.token_ids for chunk in _chunks(sender)] == [[0]]
    for token in (1, 2, 3):
        loop.advance(LINGER_S / 10)
        stream.add(_update(token))
    assert len(_chunks(sender)) == 1
    loop.advance(LINGER_S)
    assert [chunk.token_ids for chunk in _chunks(sender)] == [[0], [1, 2, 3]]
    assert _chunks(sender)[1].index == 1


def test_a_chunk_says_which_record_it_is_for(
    stream: TokenStream, sender: FakeSender, attempt: JobAttempt
) -> None:
    stream.add(_update(0))
    assert [chunk.source for chunk in _chunks(sender)] == [attempt.source]


def test_slow_tokens_are_not_delayed(
    stream: TokenStream, sender: FakeSender, loop: FakeLoop
) -> None:
    for token in range(4):
        loop.advance(LINGER_S)
        stream.add(_update(token))
        assert _chunks(sender)[-1].token_ids == [token]


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_wall_clock_that_is_set_delays_no_token(
    stream: TokenStream, sender: FakeSender, loop: FakeLoop, step_s: float
) -> None:
    stream.add(_update(0))
    loop.offset_s = step_s
    stream.add(_update(1))
    loop.advance(LINGER_S)
    assert [chunk.token_ids for chunk in _chunks(sender)] == [[0], [1]]


def test_the_end_goes_immediately_and_nothing_follows(
    stream: TokenStream, sender: FakeSender, loop: FakeLoop
) -> None:
    stream.add(_update(0))
    stream.add(_update(1))
    stream.add(_update(2, FinishReason.STOP))
    assert [(chunk.text, chunk.finish_reason) for chunk in _chunks(sender)] == [
        ("0 ", None),
        ("1 2 ", "stop"),
    ]
    assert loop.due is None
