"""The latency model, its inverse, and its fit."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import SLOW_MIX_MODEL
from workers.latency.fit import FitError, Sample, fit
from workers.latency.model import NO_CHUNKS, Coefficients, LatencyModel

MODEL = LatencyModel(
    small=Coefficients(0.015, 6e-5, 2e-5, 4e-5, 1e-7, 8e-7),
    large=Coefficients(0.005, 3e-5, 7e-5, 0.0, 2e-7, 3e-6),
    split_tokens=512,
)


def test_an_iteration_is_the_sum_of_its_terms_in_the_small_regime() -> None:
    # 15 ms + 110 tokens * 60 us + 100 prefill * 20 us + 10 decodes * 40 us
    # + 1000 context * 0.1 us + 500 prefill context * 0.8 us
    assert MODEL.iteration_s(100, 500, 10, 1000) == pytest.approx(0.0245)


def test_beyond_the_split_the_large_regime_counts() -> None:
    assert MODEL.iteration_s(600, 0, 0, 0) == pytest.approx(0.005 + 600 * 1e-4)


@given(
    limit_s=st.floats(0, 0.5),
    context=st.integers(0, 8000),
    decodes=st.integers(0, 100),
    decode_context=st.integers(0, 200_000),
)
def test_the_most_tokens_for_a_limit_stay_within_it(
    limit_s: float, context: int, decodes: int, decode_context: int
) -> None:
    tokens = MODEL.max_prefill_tokens(limit_s, context, decodes, decode_context)
    assert tokens >= 0
    if tokens:
        assert MODEL.iteration_s(tokens, context, decodes, decode_context) <= limit_s + 1e-9


@given(
    limit_s=st.floats(0, 2),
    context=st.integers(0, 100_000),
    beside=st.lists(st.tuples(st.integers(1, 600), st.integers(0, 100_000)), max_size=3),
)
def test_the_largest_chunk_is_the_largest_that_fits_beside_others(
    limit_s: float, context: int, beside: list[tuple[int, int]]
) -> None:
    regime = Coefficients(0.01, 3e-5, 2e-5, 1e-5, 1e-7, 1e-7, pair_s=1.3e-9)
    model = LatencyModel(regime, regime, split_tokens=512)
    computed = NO_CHUNKS
    for chunk in beside:
        computed = computed.beside(*chunk)

    def with_chunk_s(tokens: int) -> float:
        batch = computed.beside(tokens, context)
        return model.iteration_s(batch.tokens, batch.context, 7, 9_000, batch.pairs)

    tokens = model.max_prefill_tokens(limit_s, context, 7, 9_000, computed)
    assert not tokens or with_chunk_s(tokens) <= limit_s + 1e-9
    assert with_chunk_s(tokens + 1) > limit_s - 1e-9


def test_attention_grows_with_tokens_times_context() -> None:
    regime = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, pair_s=1e-9)
    model = LatencyModel(regime, regime, split_tokens=512)
    assert model.iteration_s(1000, 99_500, 0, 0) == pytest.approx(0.1)
    halves = NO_CHUNKS.beside(500, 99_500).beside(500, 0)
    assert halves.pairs == pytest.approx(500 * 99_750 + 500 * 250)
    assert model.iteration_s(1000, 99_500, 0, 0, halves.pairs) == pytest.approx(0.05)


def test_a_prompt_token_costs_the_mean_of_a_large_batch() -> None:
    """However the fit shared the time out between its terms."""
    fixed = Coefficients(0.2048, 0.0, 1e-9, 0.0, 0.0, 0.0)
    assert LatencyModel(fixed, fixed, 512).prompt_token_s == pytest.approx(1e-4, rel=1e-3)


def test_large_batches_alternate_with_decodes_alone_where_that_carries_more() -> None:
    # 100 decodes alone: 25 ms. With 413 prompt tokens the batch is large: 5 + 41.3 + 3 ms.
    # Equal batches of 45 ms carry 250 tokens; alternating ones 413 * 20 / 24.3 = 340.
    step_s = MODEL.large_step_s(0.045, 0, 100, 0, max_tokens=2560)
    assert step_s == pytest.approx(0.0493, abs=1e-4)
    assert MODEL.max_prefill_tokens(step_s or 0.0, 0, 100, 0) == 413


def test_equal_batches_stay_where_they_carry_as_much() -> None:
    assert MODEL.large_step_s(0.060, 0, 100, 0, max_tokens=2560) is None  # large already
    assert MODEL.large_step_s(0.024, 0, 100, 0, max_tokens=2560) is None  # less than decodes alone
    assert MODEL.large_step_s(0.045, 0, 100, 0, max_tokens=256) is None  # not allowed
    assert MODEL.large_step_s(0.045, 0, 600, 0, max_tokens=2560) is None  # decodes alone are large
    one_regime = LatencyModel(MODEL.small, MODEL.small, 512)
    assert one_regime.large_step_s(0.045, 0, 100, 0, max_tokens=2560) is None


def test_no_limit_means_any_number_of_tokens() -> None:
    assert MODEL.max_prefill_tokens(float("inf"), 0, 5, 100) > 1_000_000


def test_a_scaled_model_takes_the_factor_longer() -> None:
    assert MODEL.scaled(1.25).iteration_s(100, 0, 3, 50) == pytest.approx(
        1.25 * MODEL.iteration_s(100, 0, 3, 50)
    )


def _samples(count: int, noise: float) -> list[Sample]:
    rng = random.Random(7)
    samples = []
    for _ in range(count):
        batch = (
            rng.choice((0, 64, 256, 400, 600, 1024, 2048)),
            rng.randrange(8000),
            rng.randrange(1, 64),
            rng.randrange(100_000),
        )
        samples.append(Sample(*batch, MODEL.iteration_s(*batch) * rng.gauss(1.0, noise)))
    return samples


def test_a_fit_finds_a_model_that_predicts_within_three_percent() -> None:
    fitted = fit(_samples(300, noise=0.03))
    for sample in _samples(100, noise=0.0):
        assert fitted.iteration_s(*sample.batch) == pytest.approx(sample.duration_s, rel=0.03)


def test_iterations_of_decodes_only_may_be_of_another_kind() -> None:
    """Some engines run them by another path: here, in a third of the time."""
    samples = [
        s if s.prefill_tokens else s._replace(duration_s=s.duration_s / 3)
        for s in _samples(300, noise=0.0)
    ]
    fitted = fit(samples)
    for sample in samples:
        assert fitted.iteration_s(*sample.batch) == pytest.approx(sample.duration_s, rel=0.05)
    assert fitted.scaled(2).iteration_s(0, 0, 5, 900) == 2 * fitted.iteration_s(0, 0, 5, 900)


@pytest.mark.parametrize("context_token_s", [1e-5, 1e-4])
def test_a_coefficient_may_be_a_thousand_times_what_was_expected(context_token_s: float) -> None:
    """Few iterations say so, as there are few that are so slow."""
    beside = replace(SLOW_MIX_MODEL.large, decode_context_token_s=context_token_s)
    law = replace(SLOW_MIX_MODEL, small=beside, large=beside)
    alone = [(tokens, 0, 0, 0) for tokens in (16, 64, 256, 1024, 2048)] * 4
    decodes = [(0, 0, n, 1_600 * n) for n in (1, 2, 4, 8, 16)] * 6
    mixed = [(64 * n, 0, n, 1_700 * n) for n in range(1, 17)]
    rng = random.Random(1)
    fitted = fit(
        [
            Sample(*batch, law.iteration_s(*batch) * rng.gauss(1.0, 0.03))
            for batch in (*alone, *decodes, *mixed)
        ]
    )
    for batch in ((0, 0, 8, 13_600), (64, 0, 8, 13_600), (2048, 0, 0, 0)):
        assert fitted.iteration_s(*batch) == pytest.approx(law.iteration_s(*batch), rel=0.15)


def test_a_fit_refuses_too_few_samples() -> None:
    with pytest.raises(FitError, match="at least 12"):
        fit(_samples(5, noise=0.0))


def test_a_fit_refuses_an_impossible_duration() -> None:
    with pytest.raises(FitError, match="above zero"):
        fit([Sample(1, 0, 0, 0, 0.0)] * 20)


def test_a_fit_where_nothing_varies_still_predicts_what_was_seen() -> None:
    fitted = fit([Sample(256, 0, 8, 1000, 0.04)] * 20)
    assert fitted.iteration_s(256, 0, 8, 1000) == pytest.approx(0.04, rel=1e-3)
