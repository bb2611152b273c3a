"""Filling one iteration with prompts."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from workers.policy.backlog import Backlog
from workers.policy.batch import PrefillBatch
from workers.policy.candidates import Candidates
from workers.policy.learning import Learning
from workers.policy.limits import PlanLimits
from workers.policy.lookahead import NO_CUTOFF
from workers.policy.memory import lets_others_pass, victims_for_prompt
from workers.policy.qos import Kind
from workers.policy.queue import Entry
from workers.policy.ranking import FIRST_RANK
from workers.policy.request import Prefill
from workers.policy.selection import choose, is_too_late, most_urgent_first, order_of
from workers.policy.settings import Settings


class Planning:
    """A throwaway object: one plan while it is being made."""

    def __init__(
        self,
        backlog: Backlog,
        batch: PrefillBatch,
        learned: Learning,
        settings: Settings,
        limits: PlanLimits,
        now_s: float,
        most_prompts: int,
    ) -> None:
        """The batch has at most `most_prompts`, and no more than `limits` allow."""
        self._backlog = backlog
        self._batch = batch
        self._token_s = learned.prefill_token_s
        self._work = learned.work
        self._settings = settings
        self._limits = limits
        self._now_s = now_s
        self._most = min(limits.chunks, most_prompts)
        self._order = order_of(settings, backlog.cutoff, backlog.work_s, learned.memory_bound)
        self._in_progress = most_urgent_first(backlog.started.values(), self._order, self._work)
        self._park = settings.park and len(self._in_progress) < limits.in_progress
        self._waiting = backlog.waiting(self._order, self._gives_up, limits.set_aside)
        self._overdue: Candidates | None = None
        """Looked at when nothing else waits."""
        self._late: Candidates | None = None
        """The same requests, looked at while there is spare time."""
        self.is_full = False
        """Prompts were left out for lack of time, of memory, or of places in the batch."""
        self.lacks_memory = False
        """A prompt found no room."""
        self._settled = 0
        self._blocked = 0
        self._siblings = 0
        """Those that were let wait for another."""
        self._groups = backlog.pressure <= 1.0 and backlog.cutoff == NO_CUTOFF
        """Prompts may go before others that are due earlier."""
        self._spare = backlog.spare if self._park else 0.0
        """Work that may still go before what can be met; see `Lookahead.spare`."""
        self._admits_no_more = False
        """What memory is left, is left for a prompt that found too little."""

    def fill(self) -> None:
        """Add prompts to the batch until it is full or there is none that may be added."""
        batch, most = self._batch, self._most
        while not batch.full and len(batch.chunks) < most and (prefill := self._next()) is not None:
            if batch.take(prefill):
                self._backlog.start(prefill, self._now_s)
        self.is_full = batch.full or self._blocked > 0 or self._leaves_more_than(most)
        self._settle()

    def next_in_line(self, count: int) -> list[str]:
        """See `NiyamaPolicy.next_in_line`, which is asked once, after the plan."""
        planned = [self._backlog.get(chunk.request_id) for chunk in self._batch.chunks]
        mixed = all(prefill is None or prefill.request.prompt_mixes for prefill in planned)
        others = islice(chain(self._parked(), self._not_planned()), 2 * count)
        return [p.request_id for p in others if p.request.prompt_mixes >= mixed][:count]

    def reclaim_kv(self, victims: Iterable[Prefill], reason: str) -> None:
        for victim in victims:
            self._batch.reclaim_kv(victim)
            self._backlog.reclaim_kv(victim, reason, self._now_s)

    def _next(self) -> Prefill | None:
        """The prompt to add to the batch; None when there is none that may be added."""
        if (late := self._late_with_spare()) is not None:
            return late
        while True:
            waiting = self._waiting_head()
            running = next(self._parked(), None)
            chosen = choose(
                running,
                waiting,
                self._overdue_head() if waiting is None and running is None else None,
                self._order,
                self._work,
                park=self._park,
            )
            if chosen is None:
                return None
            prefill = self._backlog[chosen]
            if chosen in self._backlog.started:
                return prefill
            if (following := self._following(prefill)) is not None:
                return following
            self._backlog.prefixes.refresh(prefill)
            candidates = self._overdue if waiting is None else self._waiting
            if (sibling := self._sibling_to_wait_for(prefill)) is not None:
                in_progress = self._backlog.started.get(sibling)
                if in_progress is not None and not self._batch.holds(sibling):
                    return in_progress
                self._let_wait(candidates)
            elif self._finds_room(prefill):
                return prefill
            else:
                self._pass_over(prefill, candidates)

    def _late_with_spare(self) -> Prefill | None:
        """An overdue prompt whose work is at most half of the spare: it makes nobody else late."""
        late = None
        if self._spare > 0.0:
            late = next(filter(self._fits_spare, self._late_prompts()), None)
        self._spare -= self._work(late) if late is not None else self._spare
        return late

    def _fits_spare(self, late: Prefill) -> bool:
        return 2 * self._work(late) <= self._spare and self._batch.has_time_for(late)

    def _late_prompts(self) -> Iterator[Prefill]:
        """Those in progress, and the first that waits, if it keeps no memory from others."""
        yield from (prefill for prefill in self._parked() if prefill.is_overdue)
        if (late := self._first_late()) is None:
            return
        head = self._waiting_head()
        missing = self._backlog[head.request_id].missing_kv_tokens if head is not None else 0
        if missing + late.missing_kv_tokens <= self._batch.memory.admissible_tokens:
            yield late

    def _first_late(self) -> Prefill | None:
        """Who is next of those overdue that wait, and do not wait for another prompt."""
        if self._late is None:
            self._late = self._backlog.overdue(self._has_expired, self._limits.set_aside)
        for _ in range(self._limits.siblings):
            entry = self._late.head()
            if entry is None:
                break
            late = self._backlog[entry.request_id]
            self._backlog.prefixes.refresh(late)
            if self._backlog.prefixes.computing(late) is None:
                return late
            self._late.skip()
        return None

    def _following(self, head: Prefill) -> Prefill | None:
        """A prompt to take before `head`, which can wait, because its prefix is cached now.

        Only batch prompts let others pass, and only while all can be met: in which order they are
        computed is then free.
        """
        entry = self._backlog.next_warm() if self._groups else None
        if entry is None or head.request.qos.kind is not Kind.BATCH:
            return None
        prefill = self._backlog[entry.request_id]
        self._backlog.prefixes.refresh(prefill)
        follows = (
            not self._gives_up(entry)
            and prefill.context_tokens >= prefill.remaining_tokens
            and self._sibling_to_wait_for(prefill) is None
            and self._finds_room(prefill)
        )
        self._groups = follows
        return prefill if follows else None

    def _sibling_to_wait_for(self, prefill: Prefill) -> str | None:
        """The prompt that computes what this one begins with, unless to wait makes it late."""
        sibling = self._backlog.prefixes.computing(prefill)
        if sibling is None or self._makes_late(prefill):
            return None
        return sibling

    def _makes_late(self, prefill: Prefill) -> bool:
        """Would a prompt that is in time be too late after one more iteration?"""
        tokens, token_s = prefill.remaining_tokens, self._token_s
        then_s = self._now_s + self._settings.max_chunk_tokens * token_s
        return any(
            is_too_late(due_s, tokens, then_s, token_s, self._settings)
            and not is_too_late(due_s, tokens, self._now_s, token_s, self._settings)
            for due_s in (prefill.due_s, prefill.latest_s)
        )

    def _let_wait(self, candidates: Candidates | None) -> None:
        """Their head waits for another prompt: go on behind it."""
        self._siblings += 1
        if self._siblings >= self._limits.siblings:
            self._admits_no_more = True
        elif candidates is not None:
            candidates.skip()

    def _parked(self) -> Iterator[Prefill]:
        """Prompts in progress that are not in the batch, the most urgent first."""
        started, holds = self._backlog.started, self._batch.holds
        for prefill in self._in_progress:
            if prefill.request_id in started and not holds(prefill.request_id):
                yield prefill

    def _leaves_more_than(self, most: int) -> bool:
        """The batch has as many prompts as it may have, and there are others."""
        return len(self._batch.chunks) >= most and (
            next(self._parked(), None) is not None
            or self._waiting_head() is not None
            or self._overdue_head() is not None
        )

    def _waiting_head(self) -> Entry | None:
        """The most urgent waiting prompt that can still be met."""
        return None if self._admits_no_more else self._waiting.head()

    def _not_planned(self) -> Iterator[Prefill]:
        """The other waiting prompts in their order, without those that found no room."""
        while (entry := self._waiting_head()) is not None:
            yield self._backlog[entry.request_id]
            self._waiting.skip()
        while (entry := self._overdue_head()) is not None and self._overdue is not None:
            yield self._backlog[entry.request_id]
            self._overdue.skip()

    def _overdue_head(self) -> Entry | None:
        """The overdue prompt that is next."""
        if self._admits_no_more:
            return None
        if self._overdue is None:
            self._settle()
            self._overdue = self._backlog.overdue(self._has_expired, self._limits.set_aside)
        return self._overdue.head()

    def _gives_up(self, entry: Entry) -> bool:
        if entry.expires_s < self._now_s:
            return True
        return entry.rank != FIRST_RANK and is_too_late(
            entry.due_s, entry.prompt_tokens, self._now_s, self._token_s, self._settings
        )

    def _has_expired(self, entry: Entry) -> bool:
        return entry.expires_s < self._now_s

    def _settle(self) -> None:
        limit = self._limits.decisions - self._settled
        self._settled += self._backlog.settle(self._now_s, limit)

    def _finds_room(self, prefill: Prefill) -> bool:
        """Is there memory for a prompt? One that somebody waits for reclaims it if it must."""
        batch = self._batch
        if not batch.has_time_for(prefill):
            self._admits_no_more = True
            return False
        if self._settings.reclaim_kv and prefill.request.qos.is_interactive:
            victims = victims_for_prompt(
                prefill, batch.memory, self._parked(), alone=batch.is_alone
            )
            self.reclaim_kv(victims, "memory for a more urgent request")
        return batch.admits(prefill)

    def _pass_over(self, prefill: Prefill, candidates: Candidates | None) -> None:
        """Their head found no room: go on behind it, or with prompts in progress alone."""
        self._blocked += 1
        self.lacks_memory |= not self._admits_no_more  # else it is time that it lacks
        if self._blocked >= self._limits.blocked or not lets_others_pass(prefill, self._now_s):
            self._admits_no_more = True
        elif candidates is not None and not self._admits_no_more:
            candidates.skip()
