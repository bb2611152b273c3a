"""Whatever happens to requests, the structures of the backlog agree about them."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.requests import FLAT_MODEL, batch, chat
from workers.policy.backlog import Backlog
from workers.policy.candidates import Candidates
from workers.policy.learning import Learning
from workers.policy.limits import PlanLimits
from workers.policy.plan import Chunk
from workers.policy.queue import Entry
from workers.policy.request import Prefill, Request
from workers.policy.review import Review
from workers.policy.selection import Order
from workers.policy.settings import Settings

indices = st.integers(0, 1_000)
seconds = st.floats(0, 5.0)


class BacklogMachine(RuleBasedStateMachine):
    """Any sequence of verbs. Due times are far away: what is overdue can be met again."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = Learning(FLAT_MODEL, Settings())
        self.backlog = Backlog(Settings(), self.learned)
        self.review = Review(self.backlog, self.learned, Settings(), PlanLimits())
        self.now_s = 0.0
        self.arrived: dict[str, Request] = {}
        self.work: dict[str, float] = {}
        """What each request should count for in the look-ahead."""
        self.computed: set[str] = set()
        """Requests that have had KV at some time: they no longer expire."""
        self.decoding: dict[str, Request] = {}

    # ---- the verbs

    @rule(
        tokens=st.integers(1, 9_000),
        interactive=st.booleans(),
        importance=st.sampled_from(["high", "low"]),
        expire_after_s=st.none() | st.floats(0.1, 20.0),
    )
    def arrive(
        self, tokens: int, interactive: bool, importance: str, expire_after_s: float | None
    ) -> None:
        name = f"{len(self.arrived):03d}"
        owner = {"importance": importance, "expire_after_s": expire_after_s}
        if interactive:
            request = chat(name, tokens, arrival_s=self.now_s, ttft_s=10_000.0, **owner)
        else:
            request = batch(name, tokens, arrival_s=self.now_s, ttlt_s=20_000.0, **owner)
        self.backlog.arrive(request, self.now_s)
        self.arrived[name] = request
        self.work[name] = self.learned.work(self.backlog[name])

    @precondition(lambda self: self.backlog._prompts)
    @rule(index=indices)
    def start(self, index: int) -> None:
        self.backlog.start(self._any(index), self.now_s)

    @precondition(lambda self: self.backlog._prompts)
    @rule(index=indices, share=st.floats(0, 1))
    def compute(self, index: int, share: float) -> None:
        prefill = self._any(index)
        name, tokens = prefill.request_id, max(1, int(share * prefill.remaining_tokens))
        chunks = [Chunk(name, tokens), Chunk("aborted while it ran", 1)]
        completed = self.backlog.compute(chunks, self.now_s)
        self.computed.add(name)
        if name in self.work:
            self.work[name] = max(0.0, self.work[name] - tokens)
        assert completed == ([prefill] if not prefill.remaining_tokens else [])
        if completed:
            self.work.pop(name, None)
            self.decoding[name] = prefill.request

    @precondition(lambda self: any(not p.has_kv for p in self.backlog._started.values()))
    @rule(index=indices)
    def requeue_what_was_not_taken(self, index: int) -> None:
        self._requeue([p for p in self.backlog.started.values() if not p.has_kv], index)

    @precondition(lambda self: self.decoding)
    @rule(index=indices)
    def requeue_a_decode(self, index: int) -> None:
        name = sorted(self.decoding)[index % len(self.decoding)]
        prefill = Prefill.of_retracted(self.decoding.pop(name), generated_tokens=7)
        self._requeue([prefill], 0)

    @precondition(lambda self: any(p.has_kv for p in self.backlog._started.values()))
    @rule(index=indices)
    def reclaim_kv(self, index: int) -> None:
        holders = [p for p in self.backlog.started.values() if p.has_kv]
        prefill = holders[index % len(holders)]
        self.backlog.reclaim_kv(prefill, "memory for a more urgent request", self.now_s)
        self.work[prefill.request_id] = self.learned.work(prefill)

    @precondition(lambda self: any(not p.is_overdue for p in self._prompts()))
    @rule(index=indices)
    def relegate(self, index: int) -> None:
        prompts = [p for p in self._prompts() if not p.is_overdue]
        prefill = prompts[index % len(prompts)]
        self.backlog.relegate(prefill, self.now_s)
        del self.work[prefill.request_id]

    @rule(hopeless=st.sets(indices), limit=st.integers(0, 3))
    def give_up(self, hopeless: set[int], limit: int) -> None:
        """What is given up is no candidate any more."""
        names = {f"{index:03d}" for index in hopeless} & self.backlog._waiting._entries.keys()
        waiting = self._waiting(lambda entry: entry.request_id in names, limit)
        while (head := waiting.head()) is not None:
            assert head.request_id not in names
            waiting.skip()

    @rule(limit=st.integers(0, 3))
    def settle(self, limit: int) -> None:
        aside = dict(self.backlog._aside)
        assert self.backlog.settle(self.now_s, limit) == min(limit, len(aside))
        for name in aside.keys() - self.backlog._aside.keys():
            self.work.pop(name, None)
            expired = aside[name].expires_s < self.now_s
            assert (self.backlog.get(name) is None) == expired
            assert (name in self.backlog._overdue) != expired

    @rule(after_s=seconds)
    def expire(self, after_s: float) -> None:
        self.now_s += after_s
        self.backlog.expire(self.now_s, limit=1_000)
        for name, request in self.arrived.items():
            expires_s = request.qos.expires_s
            if expires_s is not None and expires_s < self.now_s and name not in self.computed:
                assert self.backlog.get(name) is None
                self.work.pop(name, None)

    @precondition(lambda self: self.arrived)
    @rule(index=indices)
    def leave(self, index: int) -> None:
        name = sorted(self.arrived)[index % len(self.arrived)]
        self.backlog.leave(name)
        self.backlog.leave("unknown")
        self.work.pop(name, None)
        self.decoding.pop(name, None)

    @rule(after_s=seconds)
    def review(self, after_s: float) -> None:
        self.now_s += after_s
        overdue = [p for p in self._prompts() if p.is_overdue]
        self.review.run(self.now_s)
        self.backlog.journal.take()
        for prefill in overdue:
            if not prefill.is_overdue:
                self.work[prefill.request_id] = self.learned.work(prefill)

    @rule(by_s=st.floats(-2_000.0, 200.0))
    def the_clock_is_set(self, by_s: float) -> None:
        self.now_s += by_s
        self.arrived = {name: each.arrived_by(self.now_s) for name, each in self.arrived.items()}
        self.backlog.clock_stepped(self.now_s)
        for prefill in self._prompts():
            name = prefill.request_id
            if name in self.work or name not in self.backlog.started:
                self.work[name] = self.learned.work(prefill)
            assert prefill.request.qos.arrival_s <= self.now_s

    # ---- what always holds

    @invariant()
    def each_request_is_in_one_place(self) -> None:
        backlog = self.backlog
        queues = (backlog._waiting._entries, backlog._aside, backlog._overdue._entries)
        places = [*(name for queue in queues for name in queue), *backlog._started]
        assert sorted(places) == sorted(backlog._prompts)

    @invariant()
    def the_queues_serve_what_they_hold(self) -> None:
        backlog = self.backlog
        nobody = self._waiting(lambda entry: False, 0)
        assert (nobody.head() is None) == (len(backlog._waiting) == 0)
        overdue = backlog.overdue(lambda entry: False, 0)
        assert (overdue.head() is None) == (len(backlog._overdue) == 0)

    @invariant()
    def the_lookahead_has_the_work_of_what_can_still_be_met(self) -> None:
        known = {name for name in self.arrived if name in self.backlog._lookahead}
        assert known == self.work.keys()
        assert known == {p.request_id for p in self._prompts() if not p.is_overdue}
        assert known >= self.backlog._waiting._entries.keys()
        assert known >= self.backlog._aside.keys()
        assert not known & self.backlog._overdue._entries.keys()
        assert self.backlog.work == pytest.approx(sum(self.work.values()), abs=1e-3)

    @invariant()
    def what_expires_is_what_has_never_been_computed(self) -> None:
        expiring = {name for name in self.arrived if name in self.backlog._expiries}
        here = self.backlog._prompts.keys() - self.computed
        assert expiring == {n for n in here if self.arrived[n].qos.expires_s is not None}

    @invariant()
    def memory_is_reserved_for_what_has_started(self) -> None:
        started = self.backlog.started.values()
        assert self.backlog.reserved_kv_tokens() == sum(p.remaining_tokens for p in started)
        assert all(p.request_id in self.backlog.started for p in self._prompts() if p.has_kv)

    @invariant()
    def the_journal_forgets_what_has_left(self) -> None:
        journal = self.backlog.journal
        alive = self.backlog._prompts.keys() | self.decoding.keys()
        assert journal._relegated <= alive
        unreported = [name for ids in journal._unreported.values() for name in ids]
        waiting = self.backlog._waiting._entries.keys() | self.backlog._aside.keys()
        assert set(unreported) == waiting - journal._relegated
        assert len(set(unreported)) == len(unreported)
        assert all(journal._unreported.values())

    def _waiting(self, gives_up: Callable[[Entry], bool], limit: int) -> Candidates:
        return self.backlog.waiting(Order(), gives_up, limit)

    def _prompts(self) -> list[Prefill]:
        return [self.backlog._prompts[name] for name in sorted(self.backlog._prompts)]

    def _any(self, index: int) -> Prefill:
        prompts = self._prompts()
        return prompts[index % len(prompts)]

    def _requeue(self, prompts: list[Prefill], index: int) -> None:
        prefill = prompts[index % len(prompts)]
        self.backlog.requeue(prefill, self.now_s)
        self.work[prefill.request_id] = self.learned.work(prefill)


TestBacklog = BacklogMachine.TestCase
TestBacklog.settings = settings(max_examples=60, stateful_step_count=40)
