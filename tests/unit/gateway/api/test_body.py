"""Reading the bodies of requests."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from fastapi import Request
from starlette.types import Message

from gateway.api import body
from gateway.api.body import Bodies
from gateway.api.problems import ProblemError

HALF: Message = {"type": "http.request", "body": b'{"prompt": "', "more_body": True}
REST: Message = {"type": "http.request", "body": b'"}'}


def sending(*messages: Message) -> Request:
    """A request whose client sends these, and then nothing."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return Request({"type": "http", "headers": []}, receive)


async def refusal(bodies: Bodies, request: Request) -> ProblemError:
    with pytest.raises(ProblemError) as refused:
        async with bodies.json(request):
            pass
    return refused.value


async def test_a_client_that_leaves_while_it_sends_is_no_error_of_the_gateway() -> None:
    refused = await refusal(Bodies(), sending(HALF, {"type": "http.disconnect"}))

    assert refused.problem.status == 400


async def test_a_body_that_is_never_complete_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "READ_TIMEOUT_S", 0.01)

    refused = await asyncio.wait_for(refusal(Bodies(), sending(HALF)), 60)

    assert refused.problem.status == 408
    assert refused.headers["Connection"] == "close"


async def test_bodies_share_a_bounded_memory_and_give_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "READ_TIMEOUT_S", 0.01)
    whole = HALF["body"] + REST["body"]
    bodies = Bodies(max_held_bytes=2 * len(whole))

    async with AsyncExitStack() as answering:
        for _ in range(2):
            request = sending(HALF, REST)
            assert await answering.enter_async_context(bodies.json(request)) == whole
        refused = await refusal(bodies, sending(HALF, REST))
    given_up = await refusal(bodies, sending(HALF))
    async with bodies.json(sending(HALF, REST)) as first, bodies.json(sending(HALF, REST)) as other:
        assert first == other == whole

    assert (refused.problem.status, given_up.problem.status) == (503, 408)
    assert refused.headers == {"Retry-After": "5", "Connection": "close"}
