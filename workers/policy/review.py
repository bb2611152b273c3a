"""Looking again: who is late by now, who no longer is, and where the cutoff has to be."""

import math
from itertools import islice

from workers.policy.backlog import Backlog
from workers.policy.learning import Learning
from workers.policy.limits import PlanLimits
from workers.policy.lookahead import NOTHING, Decoding
from workers.policy.request import Prefill
from workers.policy.selection import is_too_late
from workers.policy.settings import Settings

_REVIEW_S = 0.25
"""Time between two looks ahead when nothing arrives."""


class Review:
    """Of one backlog, before each plan; of what there is, a plan's share."""

    def __init__(
        self, backlog: Backlog, learned: Learning, settings: Settings, limits: PlanLimits
    ) -> None:
        self._backlog = backlog
        self._learned = learned
        self._settings = settings
        self._limits = limits
        self._next_s = -math.inf

    def run(self, now_s: float, decoding: Decoding = NOTHING) -> None:
        """When it is time, see who is overdue and move the cutoff; report whom it relegates."""
        backlog, limits = self._backlog, self._limits
        if backlog.changed or now_s >= self._next_s:
            backlog.changed, self._next_s = False, now_s + _REVIEW_S
            for prefill in backlog.take_corrected(limits.decisions):
                backlog.requeue(prefill, now_s)
            self._review_started(now_s)
            self._review_overdue(now_s)
            backlog.move_cutoff(now_s, limits.sums, decoding)
        backlog.report_relegated(now_s, limits.decisions)

    def _review_started(self, now_s: float) -> None:
        """Prompts in progress or parked: whoever can no longer be met yields until it can.

        Unlike those that wait they are not given up for the margin that an answer has.
        """
        changed = (
            p
            for p in self._backlog.started.values()
            if self._is_too_late(p, p.latest_s, now_s) != p.is_overdue
        )
        for prefill in list(islice(changed, self._limits.decisions)):
            if prefill.is_overdue:
                self._backlog.restore(prefill, now_s)
            else:
                self._backlog.relegate(prefill, now_s)

    def _review_overdue(self, now_s: float) -> None:
        """Prompts that wait and are overdue: some of them may be met again."""
        for prefill in self._backlog.overdue_in_turn(now_s, self._limits.decisions):
            if not self._is_too_late(prefill, prefill.due_s, now_s):
                self._backlog.requeue(prefill, now_s)

    def _is_too_late(self, prefill: Prefill, due_s: float, now_s: float) -> bool:
        if prefill.is_being_read:
            return False
        token_s = self._learned.prefill_token_s
        return is_too_late(due_s, prefill.own_tokens, now_s, token_s, self._settings)
