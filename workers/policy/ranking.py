"""What a waiting prompt costs, when it is due, and how soon it yields."""

import hashlib
import math

from workers.policy.arrivals import Arrivals
from workers.policy.learning import Learning
from workers.policy.pacing import answer_due, prompt_due
from workers.policy.queue import Entry
from workers.policy.request import Prefill, Request
from workers.policy.selection import is_too_late
from workers.policy.settings import Settings
from workers.policy.tenants import Tenants
from workers.policy.value import weight_of

_MIN_WORK = 64.0
_STEP = math.log(1.2)
_MIDDLE = 100
"""The rank of the smallest requests with a weight of 1."""
_LEAST, _MOST = 1, 400
_CHANCE_RANKS = 16
SHARES = 6
"""Of requests of a step: some of them can yield, and not all."""
FIRST_RANK = -1
"""Of answers that are being read: no other rank is as low."""


class Ranking:
    """Makes the entries of queues."""

    def __init__(self, settings: Settings, learned: Learning, salt: bytes = b"") -> None:
        """`salt` as in `rank_of`."""
        self._salt = salt
        self._settings = settings
        self._learned = learned
        self._tenants = Tenants(settings.tenant_weights)
        self.arrivals = Arrivals()

    def arrived(self, request: Request, now_s: float) -> None:
        """A request is new: what its tenant asks for counts once."""
        work = self._learned.work(Prefill(request))
        self.arrivals.add(work, now_s)
        qos, tokens_per_s = request.qos, self._learned.tokens_per_s
        self._tenants.asks(qos.tenant, work, now_s, tokens_per_s, qos.deadline_s - now_s)

    def may_be_stretched(self, prefill: Prefill, now_s: float) -> bool:
        """Too late for its due time, but not for what is left without the margin of an answer.

        Of prompts that somebody waits for: of batch the margin is worth more than the prompt.
        """
        return (
            prefill.request.qos.is_interactive
            and self._is_too_late(prefill, prefill.due_s, now_s)
            and not self._is_too_late(prefill, prefill.latest_s, now_s)
        )

    def _is_too_late(self, prefill: Prefill, due_s: float, now_s: float) -> bool:
        token_s = self._learned.prefill_token_s
        return is_too_late(due_s, prefill.own_tokens, now_s, token_s, self._settings)

    def entry(self, prefill: Prefill, now_s: float, *, may_expire: bool) -> Entry:
        """The entry of a prompt as of now; the prompt is told when it is due."""
        learned = self._learned
        due = prompt_due(prefill, learned.lengths, learned.prefill_token_s, self._settings)
        prefill.due_s, prefill.latest_s = due
        if self.may_be_stretched(prefill, now_s):
            prefill.due_s = prefill.latest_s
        qos, work = prefill.request.qos, self._learned.work(prefill)
        rank = self._rank(prefill, work)
        return Entry(
            prefill.due_s,
            prefill.request_id,
            work,
            rank,
            prefill.own_tokens,
            qos.expires_s if may_expire and qos.expires_s is not None else math.inf,
            answer_due(prefill, self._learned.lengths),
            qos.kind,
        )

    def highest_rank(self, request: Request, now_s: float) -> int:
        """No request like this one ranks higher, whatever its id."""
        rank = self.entry(Prefill(request), now_s, may_expire=False).rank
        return rank - rank % SHARES + SHARES - 1

    def _rank(self, prefill: Prefill, work: float) -> int:
        if prefill.is_being_read:
            return FIRST_RANK
        qos, settings = prefill.request.qos, self._settings
        excess = self._tenants.excess(qos.tenant) ** settings.tenant_fairness
        weight = weight_of(qos, settings) / excess
        return rank_of(
            prefill.request_id,
            work,
            weight=weight,
            size_bias=settings.size_bias,
            salt=self._salt,
        )


def rank_of(
    request_id: str,
    work: float,
    *,
    weight: float = 1.0,
    size_bias: float = 1.0,
    salt: bytes = b"",
) -> int:
    """How soon a request yields in overload: higher ranks first, by work per weight.

    In steps of 20%, of which each has `SHARES` ranks, by a hash of the id: where all requests cost
    the same, they do not yield all at once. Of one request in 1 / (1 - `size_bias`), likewise by
    the hash, the size does not count: it ranks by chance among small ones.

    Clients may choose their ids. The hash depends on `salt`, at most 64 bytes that they do not
    know, so that they cannot choose ids that yield last.
    """
    steps = math.log(max(work, _MIN_WORK) / _MIN_WORK) / _STEP
    digest = hashlib.blake2b(request_id.encode(), key=salt, digest_size=8).digest()
    rest, share = divmod(int.from_bytes(digest), SHARES)
    if size_bias < 1:
        chance, draw = divmod(rest, 1_000)
        steps = steps if draw < 1_000 * size_bias else chance % _CHANCE_RANKS
    step = int(_MIDDLE + steps - math.log(weight) / _STEP)
    return SHARES * min(max(step, _LEAST), _MOST) + share
