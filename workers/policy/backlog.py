"""Prompts that are not computed yet, and every structure that has to agree about them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from workers.policy.candidates import Candidates
from workers.policy.decision import TOO_LATE, Forecast
from workers.policy.expiry import Expiries
from workers.policy.forecast import forecast, forecast_last
from workers.policy.journal import Journal
from workers.policy.learning import Learning
from workers.policy.lookahead import LEAST_WORK, NO_CUTOFF, Decoding, Due, Lookahead
from workers.policy.overdue import OverdueQueue
from workers.policy.plan import Chunk
from workers.policy.prefixes import Prefixes
from workers.policy.qos import Kind
from workers.policy.queue import Entry, WaitingQueue
from workers.policy.ranking import FIRST_RANK, Ranking
from workers.policy.request import Prefill, Request
from workers.policy.selection import Order
from workers.policy.settings import Overload, Settings


class Backlog:
    """Every request here is in one of four places, and moves between them by one of the verbs.

    *Waiting*: counts in the look-ahead, from which the admission cutoff comes. *Aside*: no longer
    considered, because it has expired or cannot be met, and not yet decided about; it still
    counts. *Overdue*: waits, can no longer be met, and yields to what can. *Started*: has entered
    an iteration; it counts in the look-ahead unless it is overdue, too (`Prefill.is_overdue`). A
    request expires until a chunk of it has been computed.
    """

    def __init__(self, settings: Settings, learned: Learning, salt: bytes = b"") -> None:
        """`salt` as in `ranking.rank_of`."""
        self.journal = Journal()
        self._settings = settings
        self._learned = learned
        self._ranking = Ranking(settings, learned, salt)
        self._prompts: dict[str, Prefill] = {}
        self._waiting = WaitingQueue()
        self._aside: OrderedDict[str, Entry] = OrderedDict()
        self._overdue = OverdueQueue()
        self._started: dict[str, Prefill] = {}
        self._expiries = Expiries()
        self.prefixes = Prefixes(self._work_changed)
        self._lookahead = self._new_lookahead()
        self.changed = False
        """Since the last review: who waits, or what that costs."""
        self._corrected: dict[str, None] = {}
        """Requests whose work is no longer what it was when they were queued."""

    # ---- who is here

    def __getitem__(self, request_id: str) -> Prefill:
        return self._prompts[request_id]

    def get(self, request_id: str) -> Prefill | None:
        return self._prompts.get(request_id)

    @property
    def started(self) -> Mapping[str, Prefill]:
        """Prompts that have entered an iteration, in progress or parked."""
        return self._started

    def waiting(self, order: Order, gives_up: Callable[[Entry], bool], limit: int) -> Candidates:
        """Those that wait and can be met, for one plan; the others are to be settled."""
        return Candidates(
            self._waiting, order, gives_up=gives_up, set_aside=self._set_aside, limit=limit
        )

    def overdue(self, gives_up: Callable[[Entry], bool], limit: int) -> Candidates:
        """The overdue requests, for one plan.

        The lowest ranks first, as beyond the cutoff: none waits behind one that takes far longer.
        Without a cutoff those that were due first.
        """
        order = Order(FIRST_RANK) if self._settings.overload is Overload.CUTOFF else Order()
        return Candidates(
            self._overdue, order, gives_up=gives_up, set_aside=self._set_aside, limit=limit
        )

    def next_warm(self) -> Entry | None:
        """Who waits, can be met, and begins with what was computed or found last."""
        name = self.prefixes.next_warm()
        return self._waiting.get(name) if name is not None else None

    # ---- how much there is

    @property
    def work(self) -> float:
        """Prefill-equivalent tokens of what is not overdue."""
        return self._lookahead.work

    @property
    def work_s(self) -> float:
        """Time that this work takes at the present throughput, seconds."""
        return self._lookahead.work / self._learned.tokens_per_s

    def due_within(self, horizons_s: Sequence[float], now_s: float) -> dict[Kind, list[float]]:
        """See `Lookahead.due_within`."""
        return self._lookahead.due_within(horizons_s, now_s)

    def highest_rank(self, request: Request, now_s: float) -> int:
        """See `Ranking.highest_rank`; as if it arrived now."""
        return self._ranking.highest_rank(request, now_s)

    def due_of(self, request: Request, now_s: float) -> float:
        """When its prompt would be due if it arrived now."""
        return self._ranking.entry(Prefill(request), now_s, may_expire=False).due_s

    @property
    def is_behind(self) -> bool:
        """Something is late already, or has to yield."""
        return self.cutoff < NO_CUTOFF or sum(self.late_work().values()) >= LEAST_WORK

    def late_work(self) -> dict[Kind, float]:
        """Prefill-equivalent tokens that are late: what is overdue, and what will soon be."""
        late = {kind: max(0.0, work) for kind, work in self._lookahead.late_of.items()}
        for kind, work in self._overdue.work.items():
            late[kind] = late.get(kind, 0.0) + work
        for prefill in self._started.values():
            if prefill.is_overdue:
                kind = prefill.request.qos.kind
                late[kind] = late.get(kind, 0.0) + self._learned.work(prefill)
        return late

    def fitting_by(self, due_s: float) -> float:
        """See `Lookahead.fitting_by`."""
        return self._lookahead.fitting_by(due_s)

    @property
    def waiting_count(self) -> int:
        """Requests that have not started, and may be met."""
        return len(self._waiting) + len(self._aside)

    @property
    def overdue_count(self) -> int:
        """Requests that have not started, and can no longer be met."""
        return len(self._overdue)

    @property
    def pressure(self) -> float:
        """See `Lookahead.pressure`."""
        return self._lookahead.pressure

    @property
    def near_pressure(self) -> float:
        """See `Lookahead.near_pressure`."""
        return self._lookahead.near_pressure

    def offered_load(self, now_s: float) -> float:
        """Share of what the replica gets done that arrivals of the last minutes ask for."""
        return self._ranking.arrivals.per_s(now_s) / self._learned.tokens_per_s

    @property
    def spare(self) -> float:
        """See `Lookahead.spare`; less the overdue work that was done since that was found."""
        return self._lookahead.spare if self._settings.overload is Overload.CUTOFF else 0.0

    @property
    def cutoff(self) -> int:
        """The highest rank whose deadlines can all be met."""
        if self._settings.overload is Overload.CUTOFF:
            return max(FIRST_RANK, self._lookahead.cutoff)
        return NO_CUTOFF

    def reserved_kv_tokens(self) -> int:
        """KV that started prompts still need to complete."""
        return sum(prefill.remaining_tokens for prefill in self._started.values())

    # ---- what happens to a request

    def arrive(self, request: Request, now_s: float) -> None:
        """A request is new: it waits, and may expire."""
        request = request.arrived_by(now_s)
        if not self._settings.share_prefixes:
            request = replace(request, prefix_keys=())
        self._expiries.add(request)
        self._ranking.arrived(request, now_s)
        prefill = Prefill(request)
        self._wait(prefill, now_s)
        self.prefixes.matched(prefill)

    def settle(self, now_s: float, limit: int) -> int:
        """Decide about what was set aside, the oldest first: it has expired, or is overdue.

        One that somebody waits for as a whole, and can be met without its margin, waits on.

        Returns how many were decided, at most `limit`.
        """
        count = min(limit, len(self._aside))
        for _ in range(count):
            entry = next(iter(self._aside.values()))
            if entry.expires_s < now_s:
                self._expire(entry.request_id, now_s)
            elif self._ranking.may_be_stretched(self._prompts[entry.request_id], now_s):
                self.requeue(self._prompts[entry.request_id], now_s)
            else:
                self.relegate(self._prompts[entry.request_id], now_s)
        return count

    def relegate(self, prefill: Prefill, now_s: float) -> None:
        """A prompt can no longer be met: it yields to all that can, waiting or started."""
        request_id = prefill.request_id
        prefill.is_overdue = True
        self._lookahead.remove(request_id)
        if (entry := self._wait_no_more(request_id)) is not None:
            self._overdue.push(entry)
            self.prefixes.leave(prefill)
        expected = self._forecast(request_id, now_s)
        self.journal.relegated(request_id, TOO_LATE, now_s, expected)

    def start(self, prefill: Prefill, now_s: float) -> None:
        """A prompt enters an iteration; nothing changes for one that has started."""
        request_id = prefill.request_id
        if request_id in self._started:
            return
        if self._wait_no_more(request_id) is not None:
            self.journal.started_in_time(request_id, now_s)
        self._overdue.remove(request_id)
        self._corrected.pop(request_id, None)
        self._take_over(prefill, now_s)
        self._lookahead.start(request_id)
        self._started[request_id] = prefill

    def compute(
        self, chunks: Iterable[Chunk], now_s: float, *, processed: bool = True
    ) -> list[Prefill]:
        """The engine computed chunks, planned or not; prompts that are complete leave.

        Returns those prompts. Unknown ids are ignored: they were aborted while they ran.
        `processed` as in `IterationResult`.
        """
        self.prefixes.land()
        known = [chunk for chunk in chunks if chunk.request_id in self._prompts]
        for request_id, tokens in known:
            self.start(self._prompts[request_id], now_s)
            self._expiries.remove(request_id)
            if self._prompts[request_id].is_overdue:
                self._lookahead.spare -= tokens
            self._lookahead.progress(request_id, tokens)
        completed = []
        for request_id, tokens in known:
            prefill = self._prompts[request_id]
            if prefill.advance(tokens):
                self._remove(request_id)
                self.prefixes.completed(prefill, cached=processed)
                completed.append(prefill)
            else:
                self.prefixes.advanced(prefill)
        return completed

    def requeue(self, prefill: Prefill, now_s: float) -> None:
        """A prompt waits again, or for the first time as one: a decode that lost its KV."""
        self._remove(prefill.request_id)
        self._wait(prefill, now_s)

    def reclaim_kv(self, prefill: Prefill, reason: str, now_s: float) -> None:
        """A started prompt loses its KV to another request and waits again."""
        prefill.lose_kv()
        self.requeue(prefill, now_s)
        self.journal.reclaimed(prefill.request_id, reason, now_s)

    def expire(self, now_s: float, limit: int) -> None:
        """Requests that have not started in time leave, at most `limit` of them."""
        for request_id in self._expiries.take_due(now_s, limit):
            self._expire(request_id, now_s)

    def correct(self, request_id: str, held_tokens: int, remaining_tokens: int) -> None:
        """See `Prefill.correct`. A prompt that waits gets its place anew when it is reviewed."""
        prefill = self._prompts.get(request_id)
        if prefill is None:
            return
        if not prefill.has_kv:
            self.prefixes.found(prefill, held_tokens)
        if prefill.remaining_tokens != remaining_tokens:
            self._work_changed(request_id)
        prefill.correct(held_tokens, remaining_tokens)

    def leave(self, request_id: str) -> None:
        """A request is done or was aborted, here or as a decode; unknown ids are ignored."""
        if (prefill := self._prompts.get(request_id)) is not None:
            self.prefixes.leave(prefill)
        self._remove(request_id)
        self._expiries.remove(request_id)
        self.journal.forget(request_id)

    def clock_stepped(self, now_s: float) -> None:
        """The clock was set, and shows `now_s` now: put waiting prompts in order again."""
        before, self._lookahead = self._lookahead, self._new_lookahead()
        for prefill in list(self._prompts.values()):
            if prefill.request_id in self._expiries:
                self._expiries.remove(prefill.request_id)
                self._expiries.add(prefill.request.arrived_by(now_s))
            if prefill.request_id not in self._started:
                self.requeue(prefill, now_s)
                continue
            entry = self._dated_entry(prefill, now_s)
            if prefill.request_id in before:
                self._look_ahead_to(entry, now_s)
                self._lookahead.start(prefill.request_id)
        self.changed = True

    # ---- looking ahead

    def restore(self, prefill: Prefill, now_s: float) -> None:
        """A started prompt was overdue, and can be met again."""
        prefill.is_overdue = False
        self._look_ahead_to(self._dated_entry(prefill, now_s), now_s)
        self._lookahead.start(prefill.request_id)
        self.journal.restored(prefill.request_id, "it can be met again", now_s)

    def overdue_in_turn(self, now_s: float, limit: int) -> list[Prefill]:
        """At most `limit` of the overdue prompts that wait: others come with the next call."""
        return [self._prompts[name] for name in self._overdue.take_turns(now_s, limit)]

    def take_corrected(self, limit: int) -> list[Prefill]:
        """At most `limit` of the prompts that wait and cost less or more than they did."""
        ids = list(islice(self._corrected, limit))
        for request_id in ids:
            del self._corrected[request_id]
        return [self._prompts[request_id] for request_id in ids]

    def move_cutoff(self, now_s: float, limit: int, decoding: Decoding) -> None:
        """Look ahead; if that takes more than `limit` sums, look again before the next plan."""
        if not self._lookahead.review(now_s, self._learned.tokens_per_s, limit, decoding):
            self.changed = True

    def report_relegated(self, now_s: float, limit: int) -> None:
        """Requests beyond the cutoff are reported, at most `limit` of them."""
        if self.cutoff < NO_CUTOFF:
            self.journal.beyond_cutoff(
                self.cutoff, now_s, lambda name: self._forecast_last(name, now_s), limit
            )

    # ---- details

    def _new_lookahead(self) -> Lookahead:
        settings = self._settings
        return Lookahead(base_s=settings.lookahead_base_s, share=settings.lookahead_share)

    def _set_aside(self, entry: Entry) -> None:
        self._aside[entry.request_id] = entry

    def _expire(self, request_id: str, now_s: float) -> None:
        prefill, expected = self._prompts[request_id], self._forecast_last(request_id, now_s)
        self.leave(request_id)
        self.journal.expired(prefill.request, now_s, expected)

    def _wait(self, prefill: Prefill, now_s: float) -> None:
        prefill.is_overdue = False
        self.prefixes.wait(prefill)
        entry = self._dated_entry(prefill, now_s)
        self._prompts[entry.request_id] = prefill
        self._waiting.push(entry)
        self._look_ahead_to(entry, now_s)
        self.journal.queued(entry)
        self.changed = True

    def _work_changed(self, request_id: str) -> None:
        """A prompt that waits costs less or more than it did."""
        if request_id in self._prompts and request_id not in self._started:
            self._corrected[request_id] = None
            self.changed = True

    def _take_over(self, prefill: Prefill, now_s: float) -> None:
        """A prompt starts, and computes what was counted as another's, too."""
        grows = prefill.elsewhere_tokens > 0
        self.prefixes.start(prefill)
        if grows and prefill.request_id in self._lookahead:
            self._lookahead.remove(prefill.request_id)
            self._look_ahead_to(self._dated_entry(prefill, now_s), now_s)

    def _look_ahead_to(self, entry: Entry, now_s: float) -> None:
        prompt = Due(entry.due_s, entry.prompt_tokens)
        answer = Due(entry.answer_due_s, max(0.0, entry.work - entry.prompt_tokens))
        self._lookahead.add(
            entry.request_id,
            now_s=now_s,
            rank=entry.rank,
            kind=entry.kind,
            prompt=prompt,
            answer=answer,
        )

    def _dated_entry(self, prefill: Prefill, now_s: float) -> Entry:
        """Says when the prompt is due, as of `now_s`."""
        prefill.request = prefill.request.arrived_by(now_s)
        return self._ranking.entry(prefill, now_s, may_expire=prefill.request_id in self._expiries)

    def _wait_no_more(self, request_id: str) -> Entry | None:
        """Take a request out of those that wait; None when it was not there."""
        entry = self._waiting.remove(request_id) or self._aside.pop(request_id, None)
        if entry is not None:
            self.journal.unqueued(entry)
        return entry

    def _remove(self, request_id: str) -> None:
        self._prompts.pop(request_id, None)
        self._started.pop(request_id, None)
        self._wait_no_more(request_id)
        self._overdue.remove(request_id)
        self._corrected.pop(request_id, None)
        self._lookahead.remove(request_id)

    def _forecast(self, request_id: str, now_s: float) -> Forecast:
        prefill = self._prompts[request_id]
        return forecast(prefill, self.work_s, now_s, self._learned, self._settings)

    def _forecast_last(self, request_id: str, now_s: float) -> Forecast:
        prefill = self._prompts[request_id]
        return forecast_last(prefill, self.work_s, now_s, self._learned, self._settings)
