"""Tokens are shown on schedule, however they come; on virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.port import EngineError, FinishReason, GenerationUpdate
from workers.policy.release import Release
from workers.runtime.engine.pacer import on_schedule
from workers.runtime.messages import RELEASE_KEY, release_in

Coming = Sequence[tuple[float, GenerationUpdate | Exception]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer when nothing is left to do."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def update(count: int, tokens: int = 1, finish: FinishReason | None = None) -> GenerationUpdate:
    return GenerationUpdate("x", tuple(range(tokens)), 1, count, 0, finish)


def shown(coming: Coming, release: Release | None, *, leave_after: int = 10**9) -> list[float]:
    """When each update is given out; raises what `coming` raises."""
    loop = VirtualLoop()
    closed = []

    async def updates() -> AsyncGenerator[GenerationUpdate, None]:
        try:
            for at_s, each in coming:
                await asyncio.sleep(at_s - loop.time())
                if isinstance(each, Exception):
                    raise each
                yield each
        finally:
            closed.append(loop.time())

    async def read() -> list[float]:
        times_s = []
        held = on_schedule(updates(), lambda: release, loop.time)
        async for _ in held:
            times_s.append(round(loop.time(), 6))
            if len(times_s) == leave_after:
                break
        await held.aclose()
        assert closed, "a reader that leaves ends the generation"
        return times_s

    try:
        return loop.run_until_complete(read())
    finally:
        loop.close()


def test_without_a_schedule_updates_are_shown_as_they_come() -> None:
    assert shown([(0.5, update(1)), (0.51, update(2))], None) == [0.5, 0.51]


def test_early_tokens_wait_until_they_are_due() -> None:
    coming = [(0.1 * i, update(i + 1)) for i in range(3)]
    assert shown(coming, Release(1.0, 0.5)) == [1.0, 1.5, 2.0]


def test_a_late_token_moves_those_after_it() -> None:
    coming = [(0.0, update(1)), (2.2, update(2)), (2.3, update(3))]
    assert shown(coming, Release(1.0, 0.5)) == [1.0, 2.2, 2.7]


def test_an_update_of_several_tokens_takes_their_time() -> None:
    coming = [(0.0, update(1)), (0.1, update(4, tokens=3)), (0.2, update(5))]
    assert shown(coming, Release(1.0, 0.5)) == [1.0, 1.5, 3.0]


def test_a_cancelled_generation_ends_immediately() -> None:
    coming = [(0.0, update(1)), (0.1, update(2)), (0.3, update(2, 0, FinishReason.CANCELLED))]
    assert shown(coming, Release(1.0, 0.5)) == [0.3, 0.3, 0.3]


def test_an_error_is_raised_immediately() -> None:
    with pytest.raises(EngineError, match="dead"):
        shown([(0.0, update(1)), (0.1, EngineError("dead"))], Release(1.0, 0.5))


def test_a_reader_that_stops_ends_the_generation() -> None:
    coming = [(0.1 * i, update(i + 1)) for i in range(50)]
    assert shown(coming, Release(1.0, 0.5), leave_after=2) == [1.0, 1.5]


def test_a_reader_that_has_left_gets_no_error() -> None:
    coming = [(0.0, update(1)), (0.1, update(2)), (1.2, EngineError("dead"))]
    assert shown(coming, Release(1.0, 0.5), leave_after=2) == [1.0, 1.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 3), st.floats(0.01, 0.5))
def test_no_token_is_early_lost_or_later_than_needed(
    gaps_s: list[float], first_s: float, pace_s: float
) -> None:
    received_s = [sum(gaps_s[: i + 1]) for i in range(len(gaps_s))]
    times_s = shown(
        [(at, update(i + 1)) for i, at in enumerate(received_s)], Release(first_s, pace_s)
    )
    due_s = -1.0
    assert len(times_s) == len(received_s)
    for number, (at_s, time_s) in enumerate(zip(received_s, times_s, strict=True)):
        due_s = max(due_s + pace_s, at_s, first_s + number * pace_s)
        assert time_s == pytest.approx(due_s, abs=1e-5)


def test_the_schedule_comes_with_the_first_token_only() -> None:
    assert release_in({RELEASE_KEY: [tuple(Release(5.0, 0.1)), None]}) == Release(5.0, 0.1)
    assert release_in({RELEASE_KEY: []}) is None
    assert release_in({}) is None
