"""Speculative decoding, as the policy hears of it: tokens accepted, and tokens verified."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, request
from workers.policy.decode_length import DecodeLengths
from workers.policy.settings import Settings, TokenTiming

GAPS = Settings(token_timing=TokenTiming.GAPS)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("paces", [False, True])
def test_an_answer_is_as_long_as_the_tokens_that_were_accepted(
    monkeypatch: pytest.MonkeyPatch, *, overlap: bool, paces: bool
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(
        DecodeLengths, "ended", lambda _self, _request, tokens, **_counted: lengths.append(tokens)
    )
    engine = FakeEngine(
        FLAT_MODEL, GAPS, overlap=overlap, paces=paces, mixes=False, verified_tokens=4
    )
    engine.drafts = [3, 0, 2]
    engine.arrive(request("chat", 50, 9, ttft_ms=1000, tbt_ms=100))
    engine.run()
    # The first token, 4, 1 and 3. Overlapped, a step more had begun when the end was noticed.
    assert lengths == [9 + overlap]


def test_beside_prompts_each_decode_computes_one_token() -> None:
    engine = FakeEngine(FLAT_MODEL, GAPS, verified_tokens=4)
    engine.arrive(request("chat", 50, 40, ttft_ms=1000, tbt_ms=100))
    engine.step()
    engine.arrive(request("batch", 2_000, 1, ttlt_s=600))
    engine.drafts = [3] * 100
    engine.run()
    mixed = {sample.decodes for sample in engine.learner.samples if sample.prefill_tokens}
    assert mixed == {0, 1}
    # Steps that could verify nothing say nothing of what those yield that can.
    assert engine.driver.policy.tokens_per_step == 4.0


def test_iterations_are_learned_with_the_tokens_that_were_verified() -> None:
    engine = FakeEngine(FLAT_MODEL, GAPS, mixes=False, verified_tokens=4)
    engine.arrive(request("chat", 50, 9, ttft_ms=1000, tbt_ms=100))
    engine.run()
    assert {sample.decodes for sample in engine.learner.samples} == {0, 4}
