"""Expected answer lengths, per tenant and application."""

from dataclasses import replace

import pytest

from tests.support.requests import batch
from workers.policy.decode_length import PRIOR_TOKENS, DecodeLengths
from workers.policy.request import Request


def _request(app: str = "a", tenant: str = "t", limit: int | None = None) -> Request:
    return replace(batch("r", 10, application=app, tenant=tenant), max_output_tokens=limit)


def test_without_history_the_prior_stands_in() -> None:
    lengths = DecodeLengths()
    assert lengths.mean_tokens(_request()) == PRIOR_TOKENS
    assert lengths.high_tokens(_request()) == pytest.approx(3 * PRIOR_TOKENS)


def test_history_takes_over_and_stays_with_its_application() -> None:
    lengths = DecodeLengths()
    for _ in range(2_000):
        lengths.observe(_request("code"), 20)
    assert lengths.mean_tokens(_request("code")) == pytest.approx(20, abs=1)
    assert lengths.high_tokens(_request("code")) == pytest.approx(20, abs=10)
    assert lengths.mean_tokens(_request("chat")) == PRIOR_TOKENS
    assert lengths.mean_tokens(_request("code", tenant="other")) == PRIOR_TOKENS


def test_two_standard_deviations_lie_above_the_mean() -> None:
    lengths = DecodeLengths()
    for index in range(20_000):
        lengths.observe(_request(), 100 if index % 2 else 300)
    # Mean 200, standard deviation 100.
    assert lengths.mean_tokens(_request()) == pytest.approx(200, abs=2)
    assert lengths.high_tokens(_request()) == pytest.approx(400, abs=8)


def test_a_request_never_expects_more_than_it_allows() -> None:
    assert DecodeLengths().high_tokens(_request(limit=32)) == 32
