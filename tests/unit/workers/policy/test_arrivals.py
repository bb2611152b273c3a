"""How much work keeps coming, per second."""

import pytest

from workers.policy.arrivals import Arrivals


def test_steady_arrivals_are_known_after_a_while() -> None:
    arrivals = Arrivals()
    for second in range(3_000):
        arrivals.add(50.0, float(second))
    assert arrivals.per_s(3_000.0) == pytest.approx(50.0, rel=0.01)


def test_what_is_handed_in_at_once_is_spread_over_minutes_and_fades() -> None:
    arrivals = Arrivals()
    assert arrivals.per_s(10.0) == 0.0
    arrivals.add(3_000.0, 10.0)
    assert arrivals.per_s(10.0) == pytest.approx(10.0)
    assert arrivals.per_s(5.0) == pytest.approx(10.0)
    assert arrivals.per_s(1_000.0) < 0.4
