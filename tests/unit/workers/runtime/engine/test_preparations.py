"""A chat is prepared before batch work, and nothing that nobody waits for is prepared at all."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from workers.engine.port import (
    EngineDead,
    GenerationRequest,
    InvalidRequest,
    NotPrepared,
    PreparedRequest,
)
from workers.policy.qos import RequestQos
from workers.runtime.engine.preparations import Preparations

NOW_S = 1000.0


def _chat(name: str, deadline_s: float = 1.0) -> GenerationRequest:
    return GenerationRequest(name, RequestQos.interactive(NOW_S, ttft_s=deadline_s, tbt_s=1.0))


def _batch(name: str, ttlt_s: float = 60.0, expires: float | None = None) -> GenerationRequest:
    return GenerationRequest(name, RequestQos.batch(NOW_S, ttlt_s=ttlt_s, expire_after_s=expires))


class Tokenizer:
    """Notes what it prepares. Requests whose name starts with `slow` take until `finish`."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.now_s = NOW_S
        self.begun: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._slow_begun = asyncio.Event()

    def prepare(self, request: GenerationRequest) -> PreparedRequest:
        self.begun.append(request.request_id)
        if request.request_id.startswith("slow"):
            self._loop.call_soon_threadsafe(self._slow_begun.set)
            assert self.finish.wait(60)
        if request.request_id == "invalid":
            raise InvalidRequest("no")
        return PreparedRequest(request.request_id, 1, 1)

    async def is_busy(self) -> None:
        """Return when a slow one has begun."""
        await asyncio.wait_for(self._slow_begun.wait(), 60)


@pytest.fixture
async def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.fixture
async def one(tokenizer: Tokenizer) -> "Iterator[Preparations]":
    """A single thread."""
    preparations = Preparations(
        tokenizer.prepare, threads=1, name="test", clock=lambda: tokenizer.now_s
    )
    yield preparations
    tokenizer.finish.set()
    preparations.close()


def _start(
    preparations: Preparations, *requests: GenerationRequest
) -> "list[asyncio.Task[PreparedRequest]]":
    return [asyncio.create_task(preparations.prepare(request)) for request in requests]


async def test_chats_come_first_then_the_earliest_deadline(
    one: Preparations, tokenizer: Tokenizer
) -> None:
    first = _start(one, _batch("slow"))
    await tokenizer.is_busy()
    rest = _start(
        one, _batch("b", 90), _batch("a", 80), _chat("late", 9.0), _chat("early", 3.0), _batch("c")
    )
    await asyncio.sleep(0)
    tokenizer.finish.set()
    await asyncio.gather(*first, *rest)
    assert tokenizer.begun == ["slow", "early", "late", "c", "a", "b"]


async def test_a_chat_does_not_wait_for_a_batch_prompt_that_takes_long(
    tokenizer: Tokenizer,
) -> None:
    preparations = Preparations(tokenizer.prepare, threads=2, name="test", clock=lambda: NOW_S)
    batch = _start(preparations, _batch("slow-1"), _batch("slow-2"))
    await tokenizer.is_busy()
    prepared = await preparations.prepare(_chat("chat"))
    assert prepared.request_id == "chat"
    assert not any(task.done() for task in batch)
    tokenizer.finish.set()
    await asyncio.gather(*batch)
    preparations.close()


async def test_what_is_no_longer_wanted_is_not_prepared(
    one: Preparations, tokenizer: Tokenizer
) -> None:
    (slow,) = _start(one, _batch("slow"))
    await tokenizer.is_busy()
    released, aborted, expired, wanted = _start(
        one, _batch("released"), _batch("aborted"), _batch("expired", expires=4.0), _batch("wanted")
    )
    await asyncio.sleep(0)
    released.cancel()
    assert one.abort("aborted")
    assert not one.abort("unknown")
    with pytest.raises(NotPrepared) as was_aborted:
        await aborted
    assert was_aborted.value.ended_by is None
    tokenizer.now_s += 5
    (late,) = _start(one, _batch("came too late", expires=4.0))
    await asyncio.sleep(0)
    tokenizer.finish.set()
    with pytest.raises(NotPrepared, match="4 s after arrival") as has_expired:
        await expired
    assert has_expired.value.ended_by is not None
    await asyncio.gather(slow, wanted, late)
    assert tokenizer.begun == ["slow", "wanted", "came too late"]


async def test_an_abort_leaves_what_is_being_prepared_alone(
    one: Preparations, tokenizer: Tokenizer
) -> None:
    (slow,) = _start(one, _batch("slow"))
    await tokenizer.is_busy()
    assert one.abort("slow")
    tokenizer.finish.set()
    assert (await slow).request_id == "slow"


async def test_an_invalid_request_is_refused_and_the_next_one_served(one: Preparations) -> None:
    with pytest.raises(InvalidRequest):
        await one.prepare(_chat("invalid"))
    assert (await one.prepare(_chat("next"))).request_id == "next"


async def test_closing_ends_everything_even_if_the_tokenizer_is_stuck(
    one: Preparations, tokenizer: Tokenizer
) -> None:
    tasks = _start(one, _batch("slow"), _batch("waiting"))
    await tokenizer.is_busy()
    one.close()
    for task in tasks:
        with pytest.raises(EngineDead):
            await task
    with pytest.raises(EngineDead):
        await one.prepare(_chat("too late"))
