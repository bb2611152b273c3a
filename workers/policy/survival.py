"""How long answers go on: the share that outlives a length, learned while they run.

The product-limit estimate (Kaplan and Meier, JASA 53(282), 1958) over intervals that grow with the
length: of the answers that reached an interval, which share ended in it? An answer that still runs,
was cut off or was cancelled counts in the intervals that it passed, and says nothing of later ones.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Self

_MOST_TOKENS = 1 << 20
_PER_OCTAVE = 4
_EDGES = sorted(
    {0, *(round(2 ** (i / _PER_OCTAVE)) for i in range(_PER_OCTAVE * 20 + 1)), _MOST_TOKENS}
)
"""Interval i is of the answers longer than `_EDGES[i]` tokens, up to `_EDGES[i + 1]`."""
_INTERVALS = len(_EDGES) - 1
_MEMORY = 200.0
"""Answers that an interval remembers; older ones are forgotten exponentially."""
_REFRESH_SHARE = 1 / 16
_MOST_FRESH = 400.0
"""The estimate follows once this share of the intervals that were counted, or this many, is new."""
_MOST_HAZARD = 1 - 1e-9


class Survival:
    """Lengths are in tokens; a length beyond the last interval counts as in it."""

    __slots__ = ("_counted", "_ended", "_fresh", "_hazards", "_reached", "_risks", "_to_come")

    def __init__(self, ended: "array[float]", reached: "array[float]") -> None:
        self._ended = ended
        """Answers that ended in each interval."""
        self._reached = reached
        """Answers that reached it; one that is known to have passed a part of it counts in part."""
        self._counted = 0.0
        """Intervals that answers passed, or ended in."""
        self._fresh = 0.0
        """Those of them that the estimate does not know."""
        self.estimate()

    @classmethod
    def exponential(cls, mean_tokens: float, weight: float) -> Self:
        """Any further token is the last one alike; known with the weight of so many answers."""
        ended = (-math.expm1(-_width(i) / mean_tokens) for i in range(_INTERVALS))
        return cls(
            array("d", (weight * share for share in ended)), array("d", [weight] * _INTERVALS)
        )

    def narrowed(self, weight: float) -> "Survival":
        """What to begin with for a part of these answers: the same with less weight."""
        ended = array("d", (weight * hazard for hazard in self._hazards))
        return Survival(ended, array("d", [weight] * _INTERVALS))

    # ---- observations

    def passed(self, start_tokens: int, tokens: int) -> None:
        """An answer that had `start_tokens` has `tokens`, and may go on."""
        self._count(start_tokens, tokens)

    def ended(self, start_tokens: int, tokens: int) -> None:
        """An answer that had `start_tokens` ended by itself, with `tokens` in all."""
        last = _interval(max(tokens, 1) - 1)
        self._count(start_tokens, _EDGES[last + 1])
        self._ended[last] += 1.0

    def _count(self, start_tokens: int, tokens: int) -> None:
        start_tokens, tokens = max(0, start_tokens), min(tokens, _MOST_TOKENS)
        if tokens <= start_tokens:
            return
        ended, reached = self._ended, self._reached
        for i in range(_interval(start_tokens), _interval(tokens - 1) + 1):
            low, high = _EDGES[i], _EDGES[i + 1]
            share = (min(tokens, high) - max(start_tokens, low)) / (high - low)
            reached[i] += share
            if reached[i] > _MEMORY:
                ended[i] *= _MEMORY / reached[i]
                reached[i] = _MEMORY
            self._fresh += share

    # ---- estimates

    def outlives(self, tokens: float) -> float:
        """The share of all answers that is longer."""
        self._refresh()
        return math.exp(-self._risk(tokens))

    def expected(self, tokens: float, most_tokens: float) -> float:
        """Mean length of the answers longer than `tokens`; longer ones count as `most_tokens`."""
        self._refresh()
        tokens = min(tokens, float(_MOST_TOKENS))
        if most_tokens <= tokens:
            return tokens
        to_come = self._to_come_after(tokens)
        if most_tokens < _MOST_TOKENS:
            outlived = math.exp(self._risk(tokens) - self._risk(most_tokens))
            to_come -= outlived * self._to_come_after(most_tokens)
        return tokens + to_come

    def quantile(self, tokens: float, share: float) -> float:
        """The length that this share of the answers longer than `tokens` does not exceed."""
        self._refresh()
        tokens = min(tokens, float(_MOST_TOKENS))
        wanted = self._risk(tokens) - math.log1p(-share)
        i = bisect_left(self._risks, wanted) - 1
        if i < 0:
            return tokens
        if i >= _INTERVALS:
            return float(_MOST_TOKENS)
        into = -math.expm1(self._risks[i] - wanted) / self._hazards[i]
        return max(tokens, _EDGES[i] + into * _width(i))

    def _risk(self, tokens: float) -> float:
        """Minus the logarithm of the share of all answers that are longer."""
        i = _interval(tokens)
        return self._risks[i] - math.log1p(-self._hazards[i] * _into(i, tokens))

    def _to_come_after(self, tokens: float) -> float:
        """Mean of what is left of the answers longer than `tokens`."""
        i = _interval(tokens)
        here = 1 - self._hazards[i] * _into(i, tokens)
        return self._sum_from(i, tokens, here, self._to_come[i + 1]) / here

    def _sum_from(self, i: int, tokens: float, here: float, to_come: float) -> float:
        """Sum of the shares that outlive each length from `tokens` on, which `here` outlive.

        Shares are of the answers that reach interval `i`, and fall evenly in it; `to_come` is left
        on average of those that outlive it.
        """
        end = 1 - self._hazards[i]
        return (_EDGES[i + 1] - tokens) * (here + end) / 2 + (here - end) / 2 + end * to_come

    def _refresh(self) -> None:
        if self._fresh > min(_MOST_FRESH, _REFRESH_SHARE * self._counted):
            self.estimate()

    def estimate(self) -> None:
        """Take in all that was observed; this happens by itself now and then."""
        self._counted += self._fresh
        self._fresh = 0.0
        tallies = zip(self._ended, self._reached, strict=True)
        self._hazards = [min(_MOST_HAZARD, ended / reached) for ended, reached in tallies]
        """Of the answers that reach an interval, the share that ends in it."""
        risks = (-math.log1p(-hazard) for hazard in self._hazards)
        self._risks = list(accumulate(risks, initial=0.0))
        """Minus the logarithm of the share of all answers that outlives each edge."""
        self._to_come = [0.0] * (_INTERVALS + 1)
        """What is left, on average, of the answers that outlive each edge."""
        to_come = 0.0
        for i in range(_INTERVALS - 1, -1, -1):
            self._to_come[i] = to_come = self._sum_from(i, _EDGES[i], 1.0, to_come)


def _width(i: int) -> int:
    return _EDGES[i + 1] - _EDGES[i]


def _into(i: int, tokens: float) -> float:
    """The share of interval `i` that lies below `tokens`."""
    return (tokens - _EDGES[i]) / (_EDGES[i + 1] - _EDGES[i])


def _interval(tokens: float) -> int:
    """That which an answer of more than `tokens` has reached."""
    return min(bisect_right(_EDGES, tokens), _INTERVALS) - 1
