"""Who yields before whom."""

from collections import Counter

from tests.support.requests import batch, chat
from workers.policy.ranking import rank_of
from workers.policy.settings import Settings
from workers.policy.value import weight_of


def test_larger_requests_yield_first() -> None:
    ranks = [rank_of("a", work) for work in (64, 640, 6_400, 64_000)]
    assert ranks == sorted(set(ranks))


def test_who_does_not_know_the_salt_cannot_choose_ids_that_yield_last() -> None:
    ids = [str(number) for number in range(3_000)]
    last = min(rank_of(each, 640, salt=b"one") for each in ids)
    chosen = [each for each in ids if rank_of(each, 640, salt=b"one") == last]
    ranks = Counter(rank_of(each, 640, salt=b"another") for each in chosen)
    assert set(ranks) == {rank_of(each, 640) for each in ids}
    assert max(ranks.values()) < len(chosen) / 3


def test_a_weight_counts_as_that_much_less_work() -> None:
    assert rank_of("a", 6_400, weight=10.0) == rank_of("a", 640)
    assert rank_of("a", 640, weight=0.125) > rank_of("a", 8 * 640 - 100)


def test_the_smallest_weight_yields_before_any_size() -> None:
    assert rank_of("a", 10, weight=1e-6) > rank_of("b", 1_000_000)


def test_one_in_so_many_is_spared_whatever_its_size() -> None:
    ranks = [rank_of(str(i), 64_000, size_bias=0.9) for i in range(1_000)]
    small = rank_of("a", 1_200)
    assert 70 <= sum(rank <= small for rank in ranks) <= 130


def test_without_size_bias_only_chance_and_weight_decide() -> None:
    small = {rank_of(str(i), 64, size_bias=0.0) for i in range(200)}
    large = {rank_of(str(i), 64_000, size_bias=0.0) for i in range(200)}
    assert small == large
    assert min(rank_of(str(i), 64, weight=0.01, size_bias=0.0) for i in range(200)) > max(small)


def test_weights_are_those_of_class_importance_and_tenant_together() -> None:
    settings = Settings(
        interactive_weight=3.0, low_importance_weight=0.25, tenant_weights=(("acme", 2.0),)
    )
    assert weight_of(batch("a", 100, tenant="other").qos, settings) == 1.0
    assert weight_of(batch("a", 100, tenant="acme").qos, settings) == 2.0
    assert weight_of(chat("a", 100, tenant="acme", importance="low").qos, settings) == 1.5
