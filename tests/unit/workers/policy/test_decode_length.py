"""Expected answer lengths: per tenant and application, and given the tokens that have come."""

from dataclasses import replace

import pytest

from tests.support.requests import batch
from workers.policy.decode_length import PRIOR_TOKENS, DecodeLengths
from workers.policy.request import Request


def _request(app: str = "a", tenant: str = "t", limit: int | None = None) -> Request:
    return replace(batch("r", 10, application=app, tenant=tenant), max_output_tokens=limit)


def _known(app: str, *answers: int, times: int = 500) -> DecodeLengths:
    lengths = DecodeLengths()
    for _ in range(times):
        for tokens in answers:
            lengths.ended(_request(app), tokens)
    return lengths


def test_without_history_the_prior_stands_in() -> None:
    lengths = DecodeLengths()
    assert lengths.expected(_request()) == pytest.approx(PRIOR_TOKENS, rel=0.01)
    assert lengths.high(_request()) == pytest.approx(3 * PRIOR_TOKENS, rel=0.02)  # exp(-3) is 5%
    assert lengths.to_come(_request(), 1_000) == pytest.approx(PRIOR_TOKENS, rel=0.05)


def test_history_takes_over() -> None:
    lengths = _known("code", 20, times=2_000)
    assert lengths.expected(_request("code")) == pytest.approx(20, rel=0.1)
    assert lengths.high(_request("code")) == pytest.approx(20, rel=0.2)


def test_what_is_not_known_of_an_application_its_tenant_tells_and_all_tell_of_a_tenant() -> None:
    lengths = _known("code", 20)
    assert lengths.expected(_request("chat")) == pytest.approx(20, rel=0.1)
    assert lengths.expected(_request("code", tenant="other")) == pytest.approx(20, rel=0.1)
    for _ in range(100):
        lengths.ended(_request("code", tenant="other"), 400)
    assert lengths.expected(_request("code", tenant="other")) == pytest.approx(400, rel=0.15)
    assert lengths.expected(_request("new", tenant="other")) == pytest.approx(400, rel=0.15)
    assert lengths.expected(_request("chat")) == pytest.approx(20, rel=0.1)


def test_an_answer_that_is_longer_than_most_will_be_as_long_as_the_long_ones() -> None:
    lengths = _known("both", 20, 20, 20, 800)
    assert lengths.expected(_request("both")) == pytest.approx((3 * 20 + 800) / 4, rel=0.1)
    assert lengths.expected(_request("both"), 50) == pytest.approx(800, rel=0.1)
    assert lengths.quantile(_request("both"), 0, 0.5) == pytest.approx(20, rel=0.2)
    assert lengths.quantile(_request("both"), 50, 0.5) == pytest.approx(800, rel=0.1)


def test_answers_that_were_cut_off_or_cancelled_are_not_taken_for_short() -> None:
    lengths = _known("a", 400)
    cancelled, cut_off = DecodeLengths(), DecodeLengths()
    for each in (cancelled, cut_off):
        for _ in range(500):
            each.ended(_request(), 400)
    for _ in range(500):
        cancelled.passed(_request(), 50)
        cut_off.ended(_request(limit=50), 50)
    expected = pytest.approx(lengths.expected(_request()), rel=0.02)
    assert cancelled.expected(_request()) == expected
    assert cut_off.expected(_request()) == expected


def test_what_was_counted_while_an_answer_ran_is_not_counted_again() -> None:
    at_once, bit_by_bit = DecodeLengths(), DecodeLengths()
    for _ in range(50):
        at_once.ended(_request(), 300)
        for tokens in range(0, 300, 7):
            bit_by_bit.passed(_request(), tokens + 7, counted=tokens)
        bit_by_bit.ended(_request(), 300, counted=301)
    assert bit_by_bit.expected(_request()) == pytest.approx(at_once.expected(_request()), rel=0.05)


def test_old_behaviour_is_forgotten() -> None:
    lengths = _known("a", 20, times=5_000)
    for _ in range(1_000):
        lengths.ended(_request(), 500)
    assert lengths.expected(_request()) == pytest.approx(500, rel=0.1)


def test_a_request_never_expects_more_than_it_allows_or_fewer_than_have_come() -> None:
    lengths = DecodeLengths()
    assert lengths.high(_request(limit=32)) == 32
    assert 25 < lengths.expected(_request(limit=32)) < 32
    assert lengths.expected(_request(limit=32), 32) == 32
    assert lengths.to_come(_request(limit=32), 40) == 0


def test_applications_of_which_nothing_is_heard_are_forgotten() -> None:
    lengths = _known("first", 20)
    for number in range(2_000):
        lengths.ended(_request("app", tenant=f"t{number}"), 400)
    assert len(lengths) <= 1_000
    # What is known of all: most answers were long.
    assert lengths.expected(_request("first")) == pytest.approx(400, rel=0.15)
