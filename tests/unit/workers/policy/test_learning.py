"""What is learned, and what an ablation leaves out of it."""

from dataclasses import replace

import pytest

from tests.support.requests import FLAT_MODEL, batch
from workers.latency.fit import Sample
from workers.latency.model import Coefficients, LatencyModel, Regime
from workers.policy.decode_length import PRIOR_TOKENS
from workers.policy.learning import Learning
from workers.policy.request import Prefill
from workers.policy.settings import Settings

RAN = Sample(500, 0, 10, 2_000, 0.12)
"""500 prompt tokens and 10 decodes in 120 ms; a token costs 0.1 ms either way."""


def test_work_is_the_prompt_and_the_expected_answer() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    work = learned.work(Prefill(batch("r", 1_000)))
    assert work == pytest.approx(1_000 + PRIOR_TOKENS, rel=0.002)


def test_cached_tokens_are_no_work_unless_that_is_left_out() -> None:
    prefill = Prefill(replace(batch("r", 1_000), cached_tokens=600))
    without = Learning(FLAT_MODEL, Settings(discount_cached_prefixes=False))
    discounted = Learning(FLAT_MODEL, Settings()).work(prefill)
    assert discounted == pytest.approx(400 + PRIOR_TOKENS, rel=0.01)
    assert without.work(prefill) == pytest.approx(discounted + 600)


def test_answers_are_learned_unless_that_is_left_out() -> None:
    request = batch("r", 1_000)
    learned = Learning(FLAT_MODEL, Settings())
    without = Learning(FLAT_MODEL, Settings(learn_answer_lengths=False))
    for _ in range(100):
        learned.lengths.ended(request, 10)
        without.lengths.ended(request, 10)
    assert learned.lengths.expected(request) < 40
    assert without.lengths.expected(request) == pytest.approx(PRIOR_TOKENS, rel=0.01)


def test_the_model_is_corrected_unless_that_is_left_out() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    without = Learning(FLAT_MODEL, Settings(calibrate=False))
    for each in (learned, without):
        each.iteration(RAN._replace(duration_s=2 * 0.061), full=False)
    assert learned.calibration.bias(Regime.SMALL) == pytest.approx(2.0)
    assert learned.prefill_token_s == pytest.approx(0.0002 + 0.020 / 2048)
    assert without.calibration.corrected == FLAT_MODEL
    assert without.prefill_token_s == pytest.approx(0.0001 + 0.010 / 2048)


def test_only_full_iterations_say_how_much_gets_done() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    before = learned.tokens_per_s
    learned.iteration(RAN, full=False)
    assert learned.tokens_per_s == before
    learned.iteration(RAN, full=True)
    # 510 tokens in 120 ms, which weigh 0.12 s of 60 s.
    done_per_s = 510 / 0.12
    assert learned.tokens_per_s == pytest.approx(before + 0.002 * (done_per_s - before))


def test_another_model_starts_over_and_keeps_what_is_known_of_answers() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    request = batch("r", 1_000)
    learned.iteration(RAN, full=True)
    learned.lengths.ended(request, 10)
    expected = learned.lengths.expected(request)
    learned.use(FLAT_MODEL.scaled(2.0))
    assert learned.calibration.bias(Regime.SMALL) == 1.0
    assert learned.calibration.model == FLAT_MODEL.scaled(2.0)
    assert learned.lengths.expected(request) == expected


def test_another_model_keeps_what_is_known_of_the_throughput() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    for _ in range(5_000):
        learned.iteration(RAN, full=True)
    done_per_s = learned.tokens_per_s
    learned.use(FLAT_MODEL.scaled(2.0))  # the same proportions: a token is worth what it was
    assert learned.tokens_per_s == pytest.approx(done_per_s, rel=0.001)
    slow = Coefficients(0.010, 0.0, 0.0001, 0.0005, 0.0, 0.0)
    learned.use(LatencyModel(slow, slow, 512))  # a decode token is worth five times as much
    assert learned.tokens_per_s == pytest.approx((500 + 50) / 0.12, rel=0.001)


def test_a_token_that_seems_to_cost_nothing_makes_no_request_endless() -> None:
    """Small batches are bound by reading the weights: another token in them is all but free."""
    small = Coefficients(0.015, 0.0, 1e-9, 1e-4, 1e-7, 0.0)
    large = Coefficients(0.200, 0.0, 1e-9, 1e-4, 1e-7, 0.0)
    learned = Learning(LatencyModel(small, large, 512), Settings())
    assert learned.work(Prefill(batch("r", 1_000))) < 3_000
    assert learned.tokens_per_s < 10_000


def test_a_long_time_in_which_nothing_ran_is_no_lack_of_throughput() -> None:
    learned = Learning(FLAT_MODEL, Settings())
    before = learned.tokens_per_s
    learned.iteration(Sample(0, 0, 0, 0, 200.0), full=True)
    assert learned.tokens_per_s == before
