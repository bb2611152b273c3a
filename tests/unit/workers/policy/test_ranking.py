"""Who yields before whom."""

from workers.policy.ranking import rank_of


def test_low_importance_yields_before_any_size_of_high_importance() -> None:
    tiny = rank_of("a", 10, important=False, size_bias=1.0)
    huge = rank_of("b", 1e6, important=True, size_bias=1.0)
    assert tiny > huge


def test_larger_requests_yield_first() -> None:
    ranks = [rank_of("a", work, important=True, size_bias=1.0) for work in (64, 640, 6_400, 64_000)]
    assert ranks == sorted(set(ranks))


def test_without_size_bias_only_chance_decides() -> None:
    small = {rank_of(str(i), 64, important=True, size_bias=0.0) for i in range(200)}
    large = {rank_of(str(i), 64_000, important=True, size_bias=0.0) for i in range(200)}
    assert small == large
