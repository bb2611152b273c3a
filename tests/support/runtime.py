"""What tests do with a real SGLang engine: prompts, qualities of service, a client."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workers.engine.port import (
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision
from workers.policy.qos import RequestQos

if TYPE_CHECKING:  # SGLang takes seconds to import
    from workers.runtime.engine.sglang_engine import SglangEngine

Made = TypeVar("Made")
TRIES = 10
PATIENCE_S = 300
"""No request of a test takes longer, unless it starves."""


def chat_qos() -> RequestQos:
    """More urgent than `batch_qos`, and not too short for what a slow machine is believed to do."""
    return RequestQos.interactive(time.time(), ttft_s=5.0, tbt_s=0.1)


def batch_qos() -> RequestQos:
    return RequestQos.batch(time.time(), ttlt_s=600.0)


def prompt_tokens(seed: int, count: int) -> list[int]:
    """A prompt that shares no prefix with one of another seed."""
    return [(seed * 31 + i * (2 * seed + 3)) % 256 for i in range(count)]


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process does nothing, and what is sent to it waits."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        await asyncio.sleep(0.01)


async def until_made(make: Callable[[int], Awaitable[Made | None]]) -> Made:
    """What `make` gives: the state that a test is about. It is called with a number for the names
    of its requests, and gives None when the engine was past that state before the test had a
    processor to act on it."""
    for number in range(TRIES):
        if (made := await make(number)) is not None:
            return made
    raise AssertionError(f"in none of {TRIES} tries did it come to that")


async def flush_cache(engine: "SglangEngine", limit_s: float = 60) -> None:
    """Empty the prefix cache, which SGLang refuses while anything is queued, parked or running."""
    end_s = time.monotonic() + limit_s
    while not (await engine._running.manager.flush_cache()).success:
        assert time.monotonic() < end_s, "the scheduler is not idle: something was leaked"
        await asyncio.sleep(0.05)


class Client:
    """Generates, and keeps the tokens and the scheduler's decisions."""

    def __init__(self, engine: "SglangEngine") -> None:
        self.engine = engine
        self.decisions: list[Decision] = []
        self.ttft_s: dict[str, float] = {}
        self.times: dict[str, EngineTimes] = {}
        """Where the time of each request that ended went."""
        self.cached_tokens: dict[str, int] = {}
        """Of each prompt, those that were found in the prefix cache."""

    async def collect(self) -> None:
        async for decision in self.engine.decisions():
            self.decisions.append(decision)

    async def run(
        self, request_id: str, qos: RequestQos, max_tokens: int = 12, **prompt: Any
    ) -> tuple[list[int], FinishReason | None]:
        return await self.finish(await self.prepare(request_id, qos, max_tokens, **prompt))

    async def prepare(
        self, request_id: str, qos: RequestQos, max_tokens: int = 12, **prompt: Any
    ) -> PreparedRequest:
        sampling = {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
        sampling |= prompt.pop("sampling", {})
        return await self.engine.prepare(
            GenerationRequest(request_id, qos, sampling=sampling, **prompt)
        )

    async def finish(self, prepared: PreparedRequest) -> tuple[list[int], FinishReason | None]:
        start_s = time.monotonic()
        generated: list[int] = []
        reason = None
        async for update in self.updates(prepared):
            self.ttft_s.setdefault(prepared.request_id, time.monotonic() - start_s)
            self.cached_tokens[prepared.request_id] = update.cached_tokens
            generated += update.token_ids
            if update.engine_times is not None:
                assert start_s <= update.engine_times.entered_s
                assert update.engine_times.ended_s <= time.monotonic()
                self.times[prepared.request_id] = update.engine_times
            reason = update.finish_reason
        return generated, reason

    async def updates(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        async with asyncio.timeout(PATIENCE_S):
            async for update in self.engine.generate(prepared):
                yield update

    def kinds(self, request_id: str) -> list[str]:
        return [str(d.kind) for d in self.decisions if d.request_id == request_id]
