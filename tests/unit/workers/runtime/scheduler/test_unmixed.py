"""Batches that SGLang does not mix: prompts and decodes take turns, by the decodes' slack."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.support.requests import FLAT_MODEL, SLOW_MIX_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, request
from workers.policy.settings import Settings, TokenTiming

TBT_S = 0.1


def with_log_probabilities(req: FakeRequest) -> None:
    req.return_logprob = True


def with_beams(req: FakeRequest) -> None:
    req.beam_group = object()


def as_it_is(req: FakeRequest) -> None:
    pass


def make_engine(*, mixes: bool, overlap: bool) -> FakeEngine:
    settings = Settings(token_timing=TokenTiming.GAPS)
    engine = FakeEngine(FLAT_MODEL, settings, overlap=overlap, mixes=mixes)
    engine.step_s = None
    return engine


def chats(count: int, change: Callable[[FakeRequest], None]) -> list[FakeRequest]:
    found = [request(f"chat{i}", 50, 100, ttft_ms=1000, tbt_ms=1000 * TBT_S) for i in range(count)]
    for chat in found:
        change(chat)
    return found


def prompts(count: int) -> list[FakeRequest]:
    return [request(f"batch{i}", 4000, 4, ttlt_s=600) for i in range(count)]


def longest_gap_s(engine: FakeEngine) -> float:
    return max(after - before for before, after in pairwise(engine.device.decoded_s))


@pytest.mark.parametrize("overlap", [False, True], ids=["in step", "overlapped"])
@pytest.mark.parametrize(
    ("mixes", "change"),
    [(False, as_it_is), (True, with_log_probabilities), (True, with_beams)],
    ids=["without mixed chunks", "log probabilities", "beams"],
)
def test_decodes_keep_their_gaps_beside_prompts_that_run_alone(
    mixes: bool, change: Callable[[FakeRequest], None], overlap: bool
) -> None:
    engine = make_engine(mixes=mixes, overlap=overlap)
    engine.arrive(*chats(8, change))
    while len(engine.running.reqs) < 8:
        engine.step()
    engine.step()
    engine.arrive(*prompts(20))
    while engine.running.reqs and engine.running.reqs[0].rid.startswith("chat"):
        engine.step()
    assert longest_gap_s(engine) < 1.05 * TBT_S
    assert sum(sum(batch.values()) for batch in engine.launched) > 50_000


def test_whatever_keeps_decodes_from_a_batch_they_get_their_turn() -> None:
    """Such as memory that the prompts have left none of: the policy expects them to be mixed."""
    engine = make_engine(mixes=True, overlap=False)
    engine.leaves_decodes_out = True
    engine.arrive(*chats(8, as_it_is))
    while len(engine.running.reqs) < 8:
        engine.step()
    engine.step()
    engine.arrive(*prompts(5))
    engine.run()
    assert longest_gap_s(engine) < 1.3 * TBT_S


@pytest.mark.parametrize("overlap", [False, True], ids=["in step", "overlapped"])
def test_sglang_mixes_nothing_that_is_faster_apart(overlap: bool) -> None:
    engine = FakeEngine(SLOW_MIX_MODEL, Settings(token_timing=TokenTiming.GAPS), overlap=overlap)
    engine.step_s = None
    engine.arrive(*chats(4, as_it_is))
    while len(engine.running.reqs) < 4:
        engine.step()
    engine.step()
    engine.arrive(*prompts(1))
    while engine.waiting_queue or engine.chunked_req:
        engine.step()
        assert engine.is_mixed_chunk  # for whatever else asks
    assert not engine.device.mixed
    assert longest_gap_s(engine) < 1.05 * TBT_S
