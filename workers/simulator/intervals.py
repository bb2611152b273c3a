"""Means over seeds, and how far they may be off."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

MOST_SEEDS = 20
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
)  # fmt: skip
"""Student's t that 95% of a two-sided distribution stay within, by degrees of freedom from 1."""


class Interval(NamedTuple):
    """The mean of independent values, and half the width of its 95% confidence interval."""

    mean: float
    half_width: float


def interval(values: Sequence[float]) -> Interval:
    """By Student's t, for 2 to `MOST_SEEDS` values; of one nothing is known but itself."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, math.inf)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, _T_95[len(values) - 2] * error)
