"""Tokens of an interactive request, held back until they are due to be shown.

The policy lets the engine work ahead of the schedule that it sets when a prompt is complete; the
reader sees none of the engine's stalls (docs/scheduler.md, "paced"). The schedule comes with the
request's first token.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from niyama.waiting import is_set_within
from workers.engine.port import FinishReason, GenerationUpdate
from workers.policy.release import Release

Updates = AsyncGenerator[GenerationUpdate, None]


async def on_schedule(
    updates: Updates, release_of: Callable[[], Release | None], clock: Callable[[], float]
) -> Updates:
    """The same updates, none before its tokens are due; an end without a result immediately.

    `release_of` is asked once there is an update. `clock` gives monotonic seconds, as the release
    does: the wall clock may be set, and a token that waits for it would come an hour late.
    """
    async with aclosing(updates):
        async for update in updates:
            if (release := release_of()) is not None:
                async with aclosing(_held_back(update, updates, release, clock)) as held:
                    async for each in held:
                        yield each
                return
            yield update


async def _held_back(
    first: GenerationUpdate, rest: Updates, release: Release, clock: Callable[[], float]
) -> Updates:
    buffer = _Buffer(clock)
    buffer.put(first)
    # Keep reading meanwhile: SGLang merges updates that nobody reads.
    reading = asyncio.create_task(buffer.fill(rest))
    due_s, shown = -math.inf, 0
    try:
        while (ready := await buffer.take()) is not None:
            update, received_s = ready
            due_s = max(due_s, received_s, release.first_s + shown * release.pace_s)
            await buffer.wait_until(due_s)
            yield update
            due_s += release.pace_s * (update.completion_tokens - shown)
            shown = update.completion_tokens
        await reading
    finally:
        reading.cancel()
        # A reader that has left gets no error.
        await asyncio.gather(reading, return_exceptions=True)


class _Buffer:
    """Updates with the times at which they were received; an end without a result releases all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: asyncio.Queue[tuple[GenerationUpdate, float] | None] = asyncio.Queue()
        self._flush = asyncio.Event()

    def put(self, update: GenerationUpdate) -> None:
        self._ready.put_nowait((update, self._clock()))
        if update.finish_reason in (FinishReason.CANCELLED, FinishReason.TOO_LARGE):
            self._flush.set()

    async def fill(self, updates: Updates) -> None:
        try:
            async for update in updates:
                self.put(update)
        except BaseException:
            self._flush.set()
            raise
        finally:
            self._ready.put_nowait(None)

    async def take(self) -> tuple[GenerationUpdate, float] | None:
        return await self._ready.get()

    async def wait_until(self, at_s: float) -> None:
        left_s = at_s - self._clock()
        if left_s > 0:
            await is_set_within(self._flush, left_s)
