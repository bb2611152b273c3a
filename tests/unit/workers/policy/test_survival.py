"""Which share of answers outlives a length: what holds whatever was observed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.survival import Survival

LENGTHS = st.integers(1, 5_000)
OBSERVED = st.lists(st.tuples(LENGTHS, st.booleans()), max_size=30)
"""Answers' lengths, and whether they ended by themselves."""


def _after(observed: list[tuple[int, bool]]) -> Survival:
    survival = Survival.exponential(200.0, 4.0)
    for tokens, ended in observed:
        (survival.ended if ended else survival.passed)(0, tokens)
    survival.estimate()
    return survival


@given(OBSERVED, LENGTHS, LENGTHS)
def test_fewer_outlive_more_tokens(observed: list[tuple[int, bool]], one: int, other: int) -> None:
    survival = _after(observed)
    low, high = sorted((one, other))
    assert 0 <= survival.outlives(high) <= survival.outlives(low) <= 1


@given(OBSERVED, st.integers(0, 5_000), st.floats(0, 0.999), st.floats(0, 0.999))
def test_quantiles_ascend_from_the_tokens_that_came(
    observed: list[tuple[int, bool]], came: int, one: float, other: float
) -> None:
    survival = _after(observed)
    low, high = sorted((one, other))
    assert came <= survival.quantile(came, low) <= survival.quantile(came, high)


@given(OBSERVED, st.integers(0, 5_000), st.floats(0.01, 0.99))
def test_a_quantile_is_outlived_by_the_others(
    observed: list[tuple[int, bool]], came: int, share: float
) -> None:
    survival = _after(observed)
    tokens = survival.quantile(came, share)
    outlives = survival.outlives(tokens) / survival.outlives(came)
    assert outlives == pytest.approx(1 - share, abs=1e-6)


@given(OBSERVED, LENGTHS, st.integers(0, 5_000), LENGTHS)
def test_an_answer_that_was_cut_off_makes_none_seem_shorter(
    observed: list[tuple[int, bool]], cut_off: int, came: int, length: int
) -> None:
    before, after = _after(observed), _after([*observed, (cut_off, False)])
    assert after.outlives(length) >= before.outlives(length) - 1e-12
    assert after.expected(came, math.inf) >= before.expected(came, math.inf) - 1e-6
    assert after.quantile(came, 0.9) >= before.quantile(came, 0.9) - 1e-6


@given(OBSERVED, st.integers(0, 5_000), LENGTHS)
def test_expected_lengths_lie_between_what_came_and_the_limit(
    observed: list[tuple[int, bool]], came: int, more: int
) -> None:
    survival = _after(observed)
    limited = survival.expected(came, came + more)
    assert came < limited <= came + more + 1e-6
    assert limited <= survival.expected(came, math.inf) + 1e-6


@given(st.lists(LENGTHS, min_size=1, max_size=50))
def test_the_mean_is_that_of_the_answers(answers: list[int]) -> None:
    survival = Survival.exponential(200.0, 1e-9)
    for tokens in answers:
        survival.ended(0, tokens)
    survival.estimate()
    mean = sum(answers) / len(answers)
    assert survival.expected(0, math.inf) == pytest.approx(mean, rel=0.2, abs=0.6)
