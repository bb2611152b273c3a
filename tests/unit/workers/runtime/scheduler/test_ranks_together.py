"""Data parallel attention: what other ranks' batches mean for this one's loop and for its model."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeBatch, FakeEngine, FakeForwardMode, FakeRequest, request
from workers.policy.settings import Settings, TokenTiming


def make_engine(*, mixes: bool = True) -> FakeEngine:
    return FakeEngine(FLAT_MODEL, Settings(token_timing=TokenTiming.GAPS), mixes=mixes)


@pytest.mark.parametrize("mixes", [True, False])
def test_every_turn_negotiates_once_about_the_prefill_delay(mixes: bool) -> None:
    """A rank that left one out would let the others wait for it forever."""
    engine = make_engine(mixes=mixes)
    engine.step_s = None
    engine.prefill_delayer = object()
    engine.arrive(request("chat", 50, 60, ttft_ms=1000, tbt_ms=60))
    engine.step()
    engine.arrive(*(request(f"long{i}", 4000, 4, ttlt_s=600) for i in range(2)))
    engine.arrive(request("other", 60, 60, ttft_ms=1000, tbt_ms=60))
    turns = 1
    while not engine.is_idle:
        engine.step()
        turns += 1
        assert engine.passes == turns
    assert sum(sum(launched.values()) for launched in engine.launched) == 50 + 60 + 8000


def test_a_prompt_that_pauses_is_in_progress_afterwards() -> None:
    engine = make_engine(mixes=False)
    engine.step_s = None
    engine.arrive(request("chat", 50, 60, ttft_ms=1000, tbt_ms=60))
    engine.step()
    engine.arrive(request("long", 4000, 4, ttlt_s=600))
    while engine.launched[-1] != {}:
        engine.step()
    assert engine.chunked_req is not None
    engine.run()
    assert sum(launched.get("long", 0) for launched in engine.launched) == 4000


def learned(engine: FakeEngine, batch: FakeBatch, duration_s: float) -> int:
    """Samples that a batch of this rank leaves behind when it took so long."""
    engine.niyama.watcher.launching(batch, after_idle=True)
    engine.clock.now_s += duration_s
    engine.niyama.watcher.launched()
    engine.niyama.watcher.processed(batch)
    before = len(engine.learner.samples)
    engine.driver.measured(engine.niyama.clock.synchronize())
    return len(engine.learner.samples) - before


def decode() -> FakeRequest:
    req = request("decode", 100, ttft_ms=1000, tbt_ms=100)
    req.prefix_len = 100
    make_engine().niyama.requests.entering(req)
    return req


def prompt() -> FakeRequest:
    req = decode()
    req.prefix_len, req.extend_len = 0, 100
    return req


EXTEND, DECODE = FakeForwardMode(extends=True), FakeForwardMode(extends=False)


def test_a_rank_that_only_takes_part_learns_nothing() -> None:
    idle = FakeBatch([], FakeForwardMode(extends=False), global_num_tokens=[0, 8192])
    idle.is_extend_in_batch = True
    assert learned(make_engine(), idle, 0.5) == 0


def test_decodes_that_wait_for_another_ranks_prompt_say_nothing_about_decodes() -> None:
    batch = FakeBatch([decode()], DECODE, global_num_tokens=[1, 8192])
    batch.is_extend_in_batch = True
    assert learned(make_engine(), batch, 0.5) == 0


def test_decodes_that_run_as_an_extension_beside_another_ranks_prompt_are_decodes() -> None:
    engine, req = make_engine(), decode()
    batch = FakeBatch([req], EXTEND, decoding_reqs=[req], global_num_tokens=[1, 8192])
    batch.is_extend_in_batch = True
    assert learned(engine, batch, 0.5) == 0
    assert engine.reported("decode") == []  # it did not start once more


def test_the_rank_with_the_largest_prompt_learns_from_it() -> None:
    batch = FakeBatch([prompt()], EXTEND, global_num_tokens=[100, 40])
    batch.is_extend_in_batch = True
    assert learned(make_engine(), batch, 0.05) == 1
    batch = FakeBatch([prompt()], EXTEND, global_num_tokens=[100, 400])
    batch.is_extend_in_batch = True
    assert learned(make_engine(), batch, 0.05) == 0


def test_a_rank_alone_learns_from_everything() -> None:
    assert learned(make_engine(), FakeBatch([decode()], DECODE), 0.02) == 1
    assert learned(make_engine(), FakeBatch([prompt()], EXTEND), 0.02) == 1
