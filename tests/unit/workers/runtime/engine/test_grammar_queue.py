"""New schemas are not held up by costly ones, however many of these came before."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from workers.engine.port import EngineDead, GenerationRequest, NotPrepared
from workers.policy.qos import RequestQos
from workers.runtime.engine.grammar_check import GrammarCheck
from workers.runtime.engine.grammar_queue import GrammarQueue

NOW_S = 1000.0
CHAT = RequestQos.interactive(NOW_S, ttft_s=1.0, tbt_s=1.0)
BATCH = RequestQos.batch(NOW_S, ttlt_s=60.0)


class FakeGrammars(GrammarCheck):
    """Schemas are words; a costly one takes until `finish`, but for its first try."""

    def __init__(self) -> None:
        self.begun, self.finish = threading.Event(), threading.Event()
        self.checked: list[str] = []

    def concerns(self, response_format: Mapping[str, Any] | None) -> bool:
        return response_format is not None

    def try_first(self, response_format: Mapping[str, Any]) -> bool:
        return "costly" not in response_format["json_schema"]

    def check(self, response_format: Mapping[str, Any]) -> None:
        self.begun.set()
        assert self.finish.wait(60)
        self.checked.append(response_format["json_schema"])


@pytest.fixture
def grammars() -> FakeGrammars:
    return FakeGrammars()


@pytest.fixture
def queue(grammars: FakeGrammars) -> Iterator[GrammarQueue]:
    queue = GrammarQueue(grammars, lambda: NOW_S)
    yield queue
    grammars.finish.set()
    queue.close()


def _request(schema: str, qos: RequestQos) -> GenerationRequest:
    sampling = {"response_format": {"type": "json_schema", "json_schema": schema}}
    return GenerationRequest(f"{schema} {qos.deadline_s}", qos, sampling=sampling)


@pytest.mark.parametrize("qos", [CHAT, BATCH], ids=["interactive", "batch"])
async def test_a_new_schema_does_not_wait_for_costly_ones(
    queue: GrammarQueue, grammars: FakeGrammars, qos: RequestQos
) -> None:
    costly = [f"costly {number}" for number in range(9)]
    waiting = [asyncio.create_task(queue.check(_request(schema, qos))) for schema in costly]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await queue.check(_request("plain", qos))
        assert not grammars.checked
        grammars.finish.set()
        await asyncio.gather(*waiting)
    assert sorted(grammars.checked) == costly


async def test_a_request_without_a_schema_does_not_wait_at_all(queue: GrammarQueue) -> None:
    queue.close()
    await queue.check(GenerationRequest("plain", CHAT))
    with pytest.raises(EngineDead):
        await queue.check(_request("new", CHAT))


async def test_a_costly_one_that_waits_can_be_aborted(
    queue: GrammarQueue, grammars: FakeGrammars
) -> None:
    first = asyncio.create_task(queue.check(_request("costly 1", CHAT)))
    async with asyncio.timeout(60):
        while not grammars.begun.is_set():
            await asyncio.sleep(0)
        request = _request("costly 2", CHAT)
        second = asyncio.create_task(queue.check(request))
        while not second.done():  # once it has had its first try
            queue.abort(request.request_id)
            await asyncio.sleep(0)
    with pytest.raises(NotPrepared):
        await second
    assert not queue.abort(request.request_id)
    grammars.finish.set()
    await first
    assert grammars.checked == ["costly 1"]
