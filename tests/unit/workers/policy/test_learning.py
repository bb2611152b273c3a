"""What is learned, and what an ablation leaves out of it."""

from dataclasses import replace

import pytest

from tests.support.requests import FLAT_MODEL, batch
from workers.latency.fit import Sample
from workers.policy.decode_length import PRIOR_TOKENS
from workers.policy.learning import Learning
from workers.policy.request import Prefill
from workers.policy.settings import Settings

RAN = Sample(500, 0, 10, 2_000, 0.12)
"""500 prompt tokens and 10 decodes in 120 ms; a token costs 0.1 ms either way."""


def test_work_is_the_prompt_and_the_expected_answer() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    assert learned.work(Prefill(batch("r", 1_000))) == pytest.approx(1_000 + PRIOR_TOKENS)


def test_cached_tokens_are_no_work_unless_that_is_left_out() -> None:
    prefill = Prefill(replace(batch("r", 1_000), cached_tokens=600))
    without = Learning(FLAT_MODEL, Settings(discount_cached_prefixes=False))
    assert Learning(FLAT_MODEL, Settings()).work(prefill) == pytest.approx(400 + PRIOR_TOKENS)
    assert without.work(prefill) == pytest.approx(1_000 + PRIOR_TOKENS)


def test_answers_are_learned_unless_that_is_left_out() -> None:
    request = batch("r", 1_000)
    learned = Learning(FLAT_MODEL, Settings())
    without = Learning(FLAT_MODEL, Settings(learn_answer_lengths=False))
    for _ in range(100):
        learned.answer(request, 10)
        without.answer(request, 10)
    assert learned.lengths.mean_tokens(request) < 40
    assert without.lengths.mean_tokens(request) == PRIOR_TOKENS


def test_the_model_is_corrected_unless_that_is_left_out() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    without = Learning(FLAT_MODEL, Settings(calibrate=False))
    for each in (learned, without):
        each.iteration(0.06, RAN, full=False)
    assert learned.calibration.bias == pytest.approx(2.0)
    assert learned.prefill_token_s == pytest.approx(0.0002)
    assert without.calibration.bias == 1.0
    assert without.prefill_token_s == pytest.approx(0.0001)


def test_only_full_iterations_say_how_much_gets_done() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    before = learned.tokens_per_s
    learned.iteration(0.12, RAN, full=False)
    assert learned.tokens_per_s == before
    learned.iteration(0.12, RAN, full=True)
    # 510 tokens in 120 ms, which weigh 0.12 s of 60 s.
    assert learned.tokens_per_s == pytest.approx(before + 0.002 * (510 / 0.12 - before))


def test_another_model_starts_over_and_keeps_what_is_known_of_answers() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    request = batch("r", 1_000)
    learned.iteration(0.06, RAN, full=True)
    learned.answer(request, 10)
    mean_tokens = learned.lengths.mean_tokens(request)
    learned.use(FLAT_MODEL.scaled(2.0))
    assert learned.calibration.bias == 1.0
    assert learned.calibration.model == FLAT_MODEL.scaled(2.0)
    assert learned.lengths.mean_tokens(request) == mean_tokens
