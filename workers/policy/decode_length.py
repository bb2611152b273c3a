"""How long the answer of an application usually is.

Mean + 2 standard deviations of its history (arXiv 2503.22562), exponentially forgetting. Until an
application has a history of its own, the prior stands in: `PRIOR_TOKENS`, with the weight of
`PRIOR_COUNT` answers.
"""

import math

from workers.policy.request import Request

PRIOR_TOKENS = 256.0
PRIOR_COUNT = 8
_FORGET = 0.005


class _History:
    __slots__ = ("count", "mean", "square")

    def __init__(self) -> None:
        self.count = PRIOR_COUNT
        self.mean = PRIOR_TOKENS
        self.square = 2 * PRIOR_TOKENS**2
        """The mean square; at first for a standard deviation as large as the mean."""


class DecodeLengths:
    def __init__(self) -> None:
        self._histories: dict[tuple[str, str], _History] = {}

    def observe(self, request: Request, output_tokens: int) -> None:
        """A request finished by itself after `output_tokens`."""
        history = self._histories.setdefault(_group(request), _History())
        history.count += 1
        weight = max(1 / history.count, _FORGET)
        history.mean += weight * (output_tokens - history.mean)
        history.square += weight * (output_tokens**2 - history.square)

    def mean_tokens(self, request: Request) -> float:
        """Expected answer length; never more than the request allows."""
        history = self._histories.get(_group(request))
        return _capped(history.mean if history else PRIOR_TOKENS, request)

    def high_tokens(self, request: Request) -> float:
        """A length that few answers exceed: mean + 2 standard deviations."""
        history = self._histories.get(_group(request)) or _History()
        spread = math.sqrt(max(0.0, history.square - history.mean**2))
        return _capped(history.mean + 2 * spread, request)


def _capped(tokens: float, request: Request) -> float:
    limit = request.max_output_tokens
    return tokens if limit is None else min(tokens, float(limit))


def _group(request: Request) -> tuple[str, str]:
    return request.qos.tenant, request.qos.application
