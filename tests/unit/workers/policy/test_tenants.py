"""Who asks for more than a fair share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.tenants import Tenants, fair_share

THROUGHPUT = 1_000.0


def _rates(rates: dict[str, float], *, weights: dict[str, float] | None = None) -> Tenants:
    """After 20 min in which each tenant asked for so much work a second."""
    tenants = Tenants((weights or {}).items())
    for second in range(1_200):
        for tenant, rate in rates.items():
            tenants.asks(tenant, rate, float(second), THROUGHPUT)
    return tenants


def test_who_floods_exceeds_its_share_and_others_do_not() -> None:
    tenants = _rates({"flood": 1_600.0, "a": 100.0, "b": 300.0})
    assert tenants.excess("flood") == pytest.approx(1_600 / 600, rel=0.02)
    assert tenants.excess("a") == tenants.excess("b") == tenants.excess("unknown") == 1.0


def test_a_share_follows_its_weight() -> None:
    tenants = _rates({"a": 1_000.0, "b": 1_000.0}, weights={"a": 3.0})
    # 750 and 250 are their shares.
    assert tenants.excess("a") == 1.0
    assert tenants.excess("b") == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("names", [["one"], ["a", "b", "c"]])
def test_one_tenant_alone_and_equal_ones_exceed_nothing(names: list[str]) -> None:
    tenants = _rates(dict.fromkeys(names, 3_000.0))
    assert all(tenants.excess(name) == pytest.approx(1.0) for name in names)


def test_nobody_exceeds_anything_while_all_fits() -> None:
    tenants = _rates({"a": 600.0, "b": 300.0})
    assert tenants.excess("a") == 1.0


def test_work_for_the_night_handed_in_at_once_exceeds_nothing() -> None:
    tenants = _rates({"a": 600.0, "b": 600.0})
    tenants.asks("a", 1_000_000.0, 1_200.0, THROUGHPUT, due_in_s=86_400.0)
    tenants.asks("a", 0.0, 1_202.0, THROUGHPUT)
    assert tenants.excess("a") < 1.05


def test_tenants_that_come_and_go_leave_nothing_behind() -> None:
    tenants = Tenants()
    for number in range(5_000):
        tenants.asks(f"{number}", 100.0, number / 1_000, THROUGHPUT)
        assert len(tenants) <= 1_024
    for second in range(0, 3_000, 100):
        tenants.asks("one", 1.0, 100.0 + second, THROUGHPUT)
    assert len(tenants) == 1


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    tenants = Tenants()
    tenants.asks("a", 100.0, 1_000.0, THROUGHPUT)
    tenants.asks("a", 100.0, 10.0, THROUGHPUT)
    assert tenants.excess("a") >= 1.0


@given(
    st.lists(st.tuples(st.floats(10.0, 1e5), st.floats(0.01, 100.0)), min_size=1, max_size=8),
    st.floats(1.0, 1e5),
)
def test_fair_shares_add_up_to_what_gets_done(
    asked: list[tuple[float, float]], throughput: float
) -> None:
    tenants = Tenants((f"{i}", weight) for i, (_, weight) in enumerate(asked))
    tenants.asks("0", 0.0, 0.0, throughput)
    for i, (work, _) in enumerate(asked):
        tenants.asks(f"{i}", work, 0.5, throughput)
    tenants.asks("0", 0.0, 1.0, throughput)
    fading = math.exp(-1 / 300)
    works = [work * fading for work, _ in asked]
    weights = {f"{i}": weight for i, (_, weight) in enumerate(asked)}
    capacity = throughput * 300 * (1 - fading)
    level = fair_share({f"{i}": work for i, work in enumerate(works)}, weights, capacity)
    granted = sum(min(work, level * weights[f"{i}"]) for i, work in enumerate(works))
    assert granted == pytest.approx(min(capacity, sum(works)))
    assert all(tenants.excess(f"{i}") >= 1.0 for i in range(len(works)))
