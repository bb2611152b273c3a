"""SGLang's queue and limits while it makes one batch."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, request
from workers.policy.account import Account
from workers.policy.interference import Interference
from workers.policy.qos import RequestQos
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.scheduler.handover import Handover
from workers.runtime.scheduler.progress import Progress
from workers.runtime.scheduler.seams import EngineRequest
from workers.runtime.scheduler.waiting import WaitingRequests

HANDOVER = Handover(order=("b", "c"), prefill_tokens=96, in_progress_tokens=32)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(FLAT_MODEL, Settings(token_timing=TokenTiming.GAPS, max_chunk_tokens=256))


@pytest.fixture
def waiting(engine: FakeEngine) -> WaitingRequests:
    waiting = WaitingRequests(engine)
    for name in "abc":
        append(engine, waiting, name)
    return waiting


def append(engine: FakeEngine, waiting: WaitingRequests, name: str) -> None:
    req = request(name, 10)
    req.niyama = Progress(
        RequestQos.interactive(0.0, ttft_s=1.0, tbt_s=0.1), Account(0.0, Interference())
    )
    engine.waiting_queue.append(req)
    waiting.appended(req)


def queue(engine: FakeEngine) -> list[str]:
    return [req.rid for req in engine.waiting_queue]


def test_sglang_sees_what_it_is_handed_and_its_limits(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    with waiting.narrowed_to(HANDOVER, decodes=5):
        assert queue(engine) == ["b", "c"]
        assert engine.chunked_prefill_size == 96 + 5
        assert engine.policy.in_progress_limit_tokens == 32


def test_afterwards_all_is_as_before(engine: FakeEngine, waiting: WaitingRequests) -> None:
    with waiting.narrowed_to(HANDOVER, decodes=5):
        pass
    assert queue(engine) == ["a", "b", "c"]
    assert engine.chunked_prefill_size == 256
    assert engine.policy.in_progress_limit_tokens is None


def test_afterwards_all_is_as_before_when_sglang_raises(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    def make_batch() -> None:
        with waiting.narrowed_to(HANDOVER, decodes=5):
            engine.waiting_queue = []
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        make_batch()
    assert queue(engine) == ["a", "b", "c"]
    assert engine.chunked_prefill_size == 256
    assert engine.policy.in_progress_limit_tokens is None
    append(engine, waiting, "d")
    assert queue(engine) == ["a", "b", "c", "d"]


def test_what_sglang_admits_leaves_the_queue(engine: FakeEngine, waiting: WaitingRequests) -> None:
    with waiting.narrowed_to(HANDOVER, decodes=0):
        engine.waiting_queue = engine.waiting_queue[1:]
    assert queue(engine) == ["a", "c"]
    assert [name for name in "abc" if name in waiting] == ["a", "c"]


def test_what_arrives_meanwhile_is_queued_and_not_seen(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    with waiting.narrowed_to(HANDOVER, decodes=0):
        append(engine, waiting, "d")
        assert queue(engine) == ["b", "c"]
    assert queue(engine) == ["a", "b", "c", "d"]
    assert "d" in waiting


def test_a_plan_without_prompts_shows_sglang_an_empty_queue(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    with waiting.narrowed_to(Handover(), decodes=3):
        assert queue(engine) == []
        assert engine.policy.in_progress_limit_tokens is None
    assert queue(engine) == ["a", "b", "c"]


class CountingQueue(list[EngineRequest]):
    """A queue that counts looks at its elements; whole passes count each."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[EngineRequest]:
        self.looks += len(self)
        return super().__iter__()

    def remove(self, value: EngineRequest) -> None:
        self.looks += len(self)
        super().remove(value)


def test_taking_from_a_long_queue_looks_at_few_of_it(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    queue = CountingQueue(engine.waiting_queue)
    engine.waiting_queue = queue
    for number in range(5_000):
        append(engine, waiting, f"{number}")
    handover = Handover(order=("2500", "17", "4999"), prefill_tokens=30)
    with waiting.narrowed_to(handover, decodes=0):
        engine.waiting_queue = [req for req in engine.waiting_queue if req.rid == "17"]
    waiting.take({"100", "4000"})
    for name in ("100", "4000"):
        waiting.forget(name)
    assert queue.looks <= 4 * 16
    assert waiting.tokens() == 10 * (5_003 - 4)
    assert queue.looks <= 4 * 16
    left = {req.rid for req in queue}
    assert left == {"a", "b", "c", *map(str, range(5_000))} - {"2500", "4999", "100", "4000"}


def test_a_queue_that_was_moved_around_loses_the_right_ones(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    engine.waiting_queue.reverse()
    waiting.take({"a"})
    assert queue(engine) == ["c", "b"]


def test_what_sglang_takes_without_a_word_is_not_counted_for_ever(
    engine: FakeEngine, waiting: WaitingRequests
) -> None:
    assert waiting.tokens() == 30
    del engine.waiting_queue[1]
    assert waiting.tokens() == 20
    assert "b" not in waiting
