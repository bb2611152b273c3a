"""What the scheduler's process tells the worker about how busy it is."""

import logging

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, request
from workers.engine.load import EngineLoad
from workers.policy.qos import Kind
from workers.policy.settings import Settings


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine(FLAT_MODEL, Settings(max_chunk_tokens=512), kv_tokens=10_000)
    engine.step_s = 0.25
    return engine


def test_it_comes_once_a_second_with_the_heartbeat(engine: FakeEngine) -> None:
    for _ in range(12):
        engine.step()
    assert len(engine.sender.loads) == engine.heartbeats == 3


def test_it_says_what_waits_what_runs_and_what_was_computed(engine: FakeEngine) -> None:
    engine.step()
    engine.arrive(request("chat", 100, 50, ttft_ms=1000, tbt_ms=200))
    engine.arrive(request("batch", 5_000, ttlt_s=600))
    for _ in range(4):
        engine.step()
    load = engine.sender.loads[-1]
    computed = sum(sum(chunks.values()) for chunks in engine.launched[:3])
    assert load.queue is not None
    assert (load.decodes, load.queue.prefilling, load.queue.waiting) == (1, 1, 0)
    assert load.prompt_tokens_per_s == computed  # in one second
    assert load.generated_tokens_per_s == 3
    assert (load.kv_tokens, load.used_kv_tokens) == (10_000, computed)
    assert load.queue.backlog_s[Kind.BATCH][-1] > 0


def test_a_load_that_cannot_be_told_ends_nothing_and_is_not_logged_each_time(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(load: EngineLoad, replica: int) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(engine.sender, "send_load", refuse)
    with caplog.at_level(logging.ERROR):
        for _ in range(12):
            engine.step()
    assert engine.heartbeats == 3
    assert len(caplog.records) == 1
