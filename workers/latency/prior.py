"""Least squares where samples may say little of a coefficient of which something is expected."""

from workers.latency.least_squares import Sums, Vector

_SURPRISE = 0.03
"""A coefficient of twice what was expected is worth as much as one sample with this error."""
_WRONG = 0.15
"""Error of predictions, as a root mean square, that an expectation must not add to them."""
_GROWTHS = 8
"""Solutions in which a coefficient may grow, to a thousand times what was expected;"""
_GROWN = 1.5
"""there are no more of them where none grows by more than this factor."""


def solved_near(sums: Sums, expected: Vector) -> Vector:
    """Coefficients that are drawn towards what is expected, by their proportion to it.

    So that what the samples say little of, and other batches depend on, stays near it. Where that
    makes predictions wrong, those that are far above it are drawn by their proportion to
    themselves. `sums` are of errors relative to durations.
    """
    drawn = sums.solve(expected, _pulls(expected))
    error, bearable = sums.error(drawn), sums.count * _WRONG**2
    if error <= bearable:
        return drawn
    grown = _grown(sums, expected, drawn)
    return grown if error - sums.error(grown) > bearable else drawn


def _grown(sums: Sums, expected: Vector, solution: Vector) -> Vector:
    """Each solution has weaker pulls on the coefficients that grew in the one before."""
    scales = expected
    for _ in range(_GROWTHS):
        larger = [max(pair) for pair in zip(scales, solution, strict=True)]
        if all(new <= _GROWN * old for new, old in zip(larger, scales, strict=True)):
            break
        scales = larger
        solution = sums.solve(expected, _pulls(scales))
    return solution


def _pulls(scales: Vector) -> Vector:
    return [(_SURPRISE / scale) ** 2 for scale in scales]
