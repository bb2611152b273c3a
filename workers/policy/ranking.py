"""What a waiting prompt costs, when it is due, and how soon it yields."""

import math
import zlib

from workers.policy.learning import Learning
from workers.policy.pacing import prompt_due
from workers.policy.queue import Entry
from workers.policy.request import Prefill
from workers.policy.selection import is_too_late
from workers.policy.settings import Settings

_MIN_WORK = 64.0
_STEP = math.log(1.2)
_LOW_IMPORTANCE = 100
_CHANCE_RANKS = 32
FIRST_RANK = -1
"""Of answers that are being read: no other rank is as low."""


class Ranking:
    """Makes the entries of queues."""

    def __init__(self, settings: Settings, learned: Learning) -> None:
        self._settings = settings
        self._learned = learned

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
        return is_too_late(due_s, prefill.remaining_tokens, now_s, token_s, self._settings)

    def entry(self, prefill: Prefill, now_s: float, *, may_expire: bool) -> Entry:
        """The entry of a prompt as of now; the prompt is told when it is due."""
        due = prompt_due(prefill, self._learned.lengths, self._settings)
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
        )

    def _rank(self, prefill: Prefill, work: float) -> int:
        if prefill.is_being_read:
            return FIRST_RANK
        return rank_of(
            prefill.request_id,
            work,
            important=prefill.request.qos.is_important or not self._settings.use_importance,
            size_bias=self._settings.size_bias,
        )


def rank_of(request_id: str, work: float, *, important: bool, size_bias: float) -> int:
    """How soon a request yields in overload: higher ranks first.

    Every low-importance request ranks above every other; then size counts, in steps of 20%, mixed
    with chance (a hash of the id) as far as `size_bias` is below 1.
    """
    size_class = math.log(max(work, _MIN_WORK) / _MIN_WORK) / _STEP
    chance = zlib.crc32(request_id.encode()) % _CHANCE_RANKS if size_bias < 1 else 0
    rank = int(size_bias * size_class + (1 - size_bias) * chance)
    return min(rank, _LOW_IMPORTANCE - 1) + (0 if important else _LOW_IMPORTANCE)
