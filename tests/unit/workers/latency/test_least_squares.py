"""Least squares whose coefficients are never negative."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.latency.least_squares import Sums, non_negative

_VALUES = st.floats(-10, 10)
_SIZE = 4
_PARTS = st.just(0.0) | st.floats(0.01, 10)
_ROWS = st.lists(
    st.tuples(st.tuples(*[_PARTS] * _SIZE), st.floats(0.1, 10)), min_size=1, max_size=20
)


@given(
    rows=_ROWS,
    guess=st.tuples(*[st.floats(0, 5)] * _SIZE),
    pulls=st.tuples(*[st.floats(0.1, 10)] * _SIZE),
)
def test_it_is_the_minimum_among_coefficients_that_are_not_negative(
    rows: list[tuple[tuple[float, ...], float]], guess: tuple[float, ...], pulls: tuple[float, ...]
) -> None:
    sums = Sums(_SIZE)
    for row, target in rows:
        sums.add(row, target, 1.0)

    def cost(solution: list[float]) -> float:
        return sums.error(solution) + sum(
            pull * (x - g) ** 2 for pull, x, g in zip(pulls, solution, guess, strict=True)
        )

    solution = sums.solve(guess, pulls)
    assert all(x >= 0 for x in solution)
    least = cost(solution)
    for i in range(_SIZE):
        for step in (-0.01, 0.01):
            other = [*solution]
            other[i] = max(0.0, other[i] + step)
            assert cost(other) >= least - 1e-6 * (1 + least)


@given(right=st.tuples(*[_VALUES] * _SIZE))
def test_without_coupling_it_is_each_alone(right: tuple[float, ...]) -> None:
    identity = [[float(i == j) for j in range(_SIZE)] for i in range(_SIZE)]
    assert non_negative(identity, right) == pytest.approx([max(0.0, x) for x in right], abs=1e-9)


def test_what_was_never_seen_is_as_guessed() -> None:
    sums = Sums(2)
    sums.add((1.0, 0.0), 3.0, 1.0)
    assert sums.solve((5.0, 7.0), (1.0, 1.0)) == pytest.approx([4.0, 7.0])  # one sample, one guess


def test_sums_of_parts_are_the_sums_of_all() -> None:
    one, other, both = Sums(2), Sums(2), Sums(2)
    for sums in (one, both):
        sums.add((1.0, 2.0), 3.0, 0.5)
    for sums in (other, both):
        sums.add((4.0, 1.0), 2.0, 1.0)
    assert one + other == both
    assert both.error([0.0, 0.0]) == pytest.approx(0.25 * 9 + 4)
    assert both.error([0.5, 1.0]) == pytest.approx(0.25 * 0.25 + 1.0)
