"""How long an answer will be, given how much of it has come.

Beliefs are kept per tenant and application (`Survival`). A new application begins with what is
known of its tenant, a new tenant with what is known of all, and all of them with a prior.
"""

import math
from collections import OrderedDict

from workers.policy.request import Request
from workers.policy.survival import Survival

PRIOR_TOKENS = 256.0
_BEGINNING_WEIGHT = 4.0
"""What an application begins with counts as so many answers of its own."""
_MOST_GROUPS = 1_000
"""Tenants and applications; those of which nothing was heard for longest are forgotten."""
_HIGH_SHARE = 0.95

_Group = tuple[str, ...]
"""A tenant, or a tenant and an application of it."""


class DecodeLengths:
    def __init__(self, *, learn: bool = True) -> None:
        """Without `learn` the prior stays."""
        self._learn = learn
        self._of_all = Survival.exponential(PRIOR_TOKENS, _BEGINNING_WEIGHT)
        self._groups: OrderedDict[_Group, Survival] = OrderedDict()
        """Of what was heard last, last."""

    def __len__(self) -> int:
        """Tenants and applications about which something is known."""
        return len(self._groups)

    # ---- observations

    def ended(self, request: Request, tokens: int, *, counted: int = 0) -> None:
        """An answer ended with `tokens`, of which `counted` have been reported before.

        When that is all that the request allows, it was cut off.
        """
        if tokens >= _most(request):
            self.passed(request, tokens, counted=counted)
            return
        for survival in self._told(request) if self._learn else ():
            survival.ended(counted, tokens)

    def passed(self, request: Request, tokens: int, *, counted: int = 0) -> None:
        """An answer has `tokens`, and goes on, or nobody will know how long it would have been."""
        if self._learn and tokens > counted:
            for survival in self._told(request):
                survival.passed(counted, tokens)

    # ---- estimates, never more than the request allows, nor fewer than have come

    def expected(self, request: Request, produced: int = 0) -> float:
        """The length on average of such an answer that goes on after `produced` tokens."""
        return self._of(request).expected(produced, _most(request))

    def to_come(self, request: Request, produced: int = 0) -> float:
        """What is left of it on average."""
        return self.expected(request, produced) - produced

    def quantile(self, request: Request, produced: int, share: float) -> float:
        """The length that this share of such answers does not exceed."""
        tokens = self._of(request).quantile(produced, share)
        return max(float(produced), min(tokens, _most(request)))

    def high(self, request: Request, produced: int = 0) -> float:
        """A length that few of such answers exceed."""
        return self.quantile(request, produced, _HIGH_SHARE)

    # ---- details

    def _of(self, request: Request) -> Survival:
        """The closest that is known."""
        qos = request.qos
        return (
            self._groups.get((qos.tenant, qos.application))
            or self._groups.get((qos.tenant,))
            or self._of_all
        )

    def _told(self, request: Request) -> tuple[Survival, ...]:
        """Everything that learns from an answer to the request."""
        qos = request.qos
        tenant = self._group((qos.tenant,), self._of_all)
        application = self._group((qos.tenant, qos.application), tenant)
        return application, tenant, self._of_all

    def _group(self, group: _Group, whole: Survival) -> Survival:
        survival = self._groups.get(group)
        if survival is None:
            survival = self._groups[group] = whole.narrowed(_BEGINNING_WEIGHT)
            if len(self._groups) > _MOST_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return survival


def _most(request: Request) -> float:
    limit = request.max_output_tokens
    return math.inf if limit is None else float(limit)
