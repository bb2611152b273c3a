"""A traced request tells, when it ends, when the chunks of its prompt ran."""

from itertools import pairwise
from typing import Any

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, request
from workers.engine.port import PrefillChunks
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.messages import RELEASE_KEY, TRACEPARENT_KEY
from workers.runtime.scheduler.chunk_notes import MAX_CHUNKS, ChunkNotes

CHUNK_TOKENS = 256


@pytest.fixture(params=[False, True], ids=["in step", "overlapped"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    settings = Settings(token_timing=TokenTiming.PACED, max_chunk_tokens=CHUNK_TOKENS)
    return FakeEngine(FLAT_MODEL, settings, overlap=request.param, paces=True)


def traced(name: str, prompt_tokens: int, **qos: Any) -> FakeRequest:
    req = request(name, prompt_tokens, **qos)
    params = {**(req.sampling_params.custom_params or {}), TRACEPARENT_KEY: "00-1-2-01"}
    req.sampling_params.custom_params = params
    return req


def told(req: FakeRequest) -> PrefillChunks:
    """When it ends."""
    assert req.prefill is not None
    return req.prefill


def test_every_chunk_is_told_with_its_iteration_and_its_times(engine: FakeEngine) -> None:
    long = traced("long", 1000, ttlt_s=600)
    engine.arrive(long)

    engine.run()

    chunks = told(long).chunks
    ran = [iteration["long"] for iteration in engine.launched if "long" in iteration]
    assert [chunk.tokens for chunk in chunks] == ran
    assert [chunk.iteration for chunk in chunks] == list(range(1, len(ran) + 1))
    assert all(chunk.start_s < chunk.end_s for chunk in chunks)
    assert all(chunk.predicted_s > 0 for chunk in chunks)
    assert all(before.end_s <= chunk.start_s for before, chunk in pairwise(chunks))


def test_a_parked_prompt_tells_the_chunks_before_and_after(engine: FakeEngine) -> None:
    long = traced("long", 1000, ttlt_s=600)
    engine.arrive(long)
    engine.step()
    engine.arrive(request("chat", 300, ttft_ms=1000, tbt_ms=200))

    engine.run()

    assert engine.reported("long") == ["started", "parked", "resumed"]
    iterations = [chunk.iteration for chunk in told(long).chunks]
    assert iterations[0] == 1
    assert iterations[1] > 2
    assert sum(chunk.tokens for chunk in told(long).chunks) == 1000


def test_the_schedule_of_its_tokens_goes_along(engine: FakeEngine) -> None:
    chat = traced("chat", 100, ttft_ms=1000, tbt_ms=200)
    engine.arrive(chat, *(request(f"b{number}", 2000, ttlt_s=6) for number in range(20)))

    engine.run()

    assert told(chat).chunks
    assert RELEASE_KEY in (chat.sent_info[0] or {})


def test_nothing_is_noted_of_a_request_that_is_not_traced(engine: FakeEngine) -> None:
    chat = request("chat", 100, ttft_ms=1000, tbt_ms=200)
    engine.arrive(chat)

    engine.run()

    assert chat.niyama.chunks is None
    assert chat.prefill is None


def test_a_prompt_that_is_cancelled_tells_the_chunks_that_ran(engine: FakeEngine) -> None:
    long = traced("long", 2000, ttlt_s=600)
    engine.arrive(long)
    for _ in range(3):
        engine.step()
    engine.abort("long")
    engine.run()

    chunks = told(long).chunks
    assert [chunk.tokens for chunk in chunks] == [CHUNK_TOKENS] * len(chunks)
    assert len(chunks) in (2, 3)


def test_a_prompt_that_is_computed_again_after_its_first_token_is_not_told_twice(
    engine: FakeEngine,
) -> None:
    chat = traced("chat", 600, max_new_tokens=8, ttft_ms=1000, tbt_ms=200)
    engine.arrive(chat)
    for _ in range(5):
        engine.step()
    engine.retract("chat")
    engine.run()

    assert sum(chunk.tokens for chunk in told(chat).chunks) == 600


def test_of_a_long_prompt_the_first_chunks_and_the_last_are_told() -> None:
    notes = ChunkNotes()
    for iteration in range(1000):
        notes.started(iteration, 900.0, 8, iteration, 0.1)
        notes.ended(iteration + 0.1)

    told = notes.all()

    assert [chunk.iteration for chunk in told.chunks] == [*range(MAX_CHUNKS - 1), 999]
    assert len(told.chunks) + told.left_out == 1000
