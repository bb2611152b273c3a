"""Prompts that begin alike: the common prefix is computed once, and counted once."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.requests import FLAT_MODEL, batch, chat
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.prefixes import Prefixes, key_positions
from workers.policy.request import Prefill, PrefixKey, Request
from workers.policy.settings import Settings

DOCUMENT = (PrefixKey(500, 1), PrefixKey(1_000, 2))
OTHER = (PrefixKey(500, 1), PrefixKey(1_000, 3))
"""It begins as `DOCUMENT` does."""


def asked(request: Request, keys: tuple[PrefixKey, ...] = DOCUMENT) -> Request:
    return replace(request, prefix_keys=keys)


def policy_with(*requests: Request, **changes: bool) -> NiyamaPolicy:
    policy = NiyamaPolicy(FLAT_MODEL, replace(Settings(), max_chunk_tokens=600, **changes))
    for request in requests:
        policy.add(request, 0.0)
    return policy


def ran(policy: NiyamaPolicy, now_s: float, *, processed: bool = True) -> dict[str, int]:
    """Plan and carry out an iteration; the chunks of it."""
    plan: IterationPlan = policy.plan(now_s, 100_000)
    policy.observe(IterationResult(now_s + 0.07, 0.0, plan.chunks, processed=processed))
    return dict(plan.chunks)


def remaining(policy: NiyamaPolicy, name: str) -> int:
    return policy._backlog[name].remaining_tokens


# ---- computed once


def test_those_behind_wait_until_the_first_has_computed_the_prefix() -> None:
    policy = policy_with(*(asked(chat(name, 1_050)) for name in "abc"))
    assert ran(policy, 0.0) == {"a": 600}
    assert ran(policy, 0.1) == {"a": 450}
    assert ran(policy, 0.2) == {"b": 50, "c": 50}


def test_who_waits_lets_others_pass() -> None:
    prompts = [asked(chat("a", 300), (PrefixKey(200, 1),)), asked(chat("b", 300), ())]
    policy = policy_with(prompts[0], asked(chat("a2", 300), (PrefixKey(200, 1),)), prompts[1])
    assert ran(policy, 0.0) == {"a": 300, "b": 300}
    assert ran(policy, 0.1) == {"a2": 100}


def test_a_prompt_in_progress_goes_on_for_a_more_urgent_one_that_begins_alike() -> None:
    policy = policy_with(asked(batch("slow", 1_050)))
    assert ran(policy, 0.0) == {"slow": 600}
    policy.add(asked(chat("urgent", 1_020)), 0.1)
    assert ran(policy, 0.1) == {"slow": 450}
    assert ran(policy, 0.2) == {"urgent": 20}


@pytest.mark.parametrize(("ttft_s", "waits"), [(0.30, True), (0.20, False)])
def test_waits_no_longer_than_its_deadline_allows(ttft_s: float, waits: bool) -> None:
    """It is 0.1 s, 550 tokens are left, which take 0.06 s, and so does an iteration."""
    policy = policy_with(asked(batch("slow", 3_050)))
    ran(policy, 0.0)
    policy.add(asked(chat("hasty", 1_050, ttft_s=ttft_s)), 0.1)
    assert next(iter(ran(policy, 0.1))) == ("slow" if waits else "hasty")


def test_an_engine_that_has_not_processed_a_prompt_cannot_share_it_yet() -> None:
    policy = policy_with(*(asked(chat(name, 550), DOCUMENT[:1]) for name in "ab"))
    assert ran(policy, 0.0, processed=False) == {"a": 550}
    assert ran(policy, 0.1, processed=False) == {}
    assert ran(policy, 0.2, processed=False) == {"b": 50}


def test_each_for_itself_where_that_is_asked_for() -> None:
    policy = policy_with(
        *(asked(chat(name, 300), (PrefixKey(200, 1),)) for name in "ab"), share_prefixes=False
    )
    assert ran(policy, 0.0) == {"a": 300, "b": 300}


def test_believes_the_engine_that_a_prefix_is_gone() -> None:
    policy = policy_with(*(asked(batch(name, 1_050)) for name in "abc"))
    ran(policy, 0.0)
    ran(policy, 0.1)
    plan = policy.plan(0.2, 100_000)
    assert plan.chunks == (Chunk("b", 50), Chunk("c", 50))
    policy.correct("b", held_tokens=0, remaining_tokens=1_050)
    policy.observe(IterationResult(0.3, 0.0, (Chunk("b", 100),)))
    assert ran(policy, 0.3) == {"b": 600}
    assert ran(policy, 0.4) == {"b": 350}
    assert ran(policy, 0.5) == {"c": 50}


# ---- counted once


def test_a_prefix_is_counted_once() -> None:
    """Each has an answer besides, of which we subtract what it counts."""
    alone = policy_with(asked(chat("a", 1_050)))
    answer = alone._backlog.work - 1_050
    policy = policy_with(*(asked(chat(name, 1_050)) for name in "abc"))
    assert policy._backlog.work == pytest.approx(1_000 + 3 * (50 + answer))
    ran(policy, 0.0)
    assert policy._backlog.work == pytest.approx(400 + 3 * (50 + answer))


@pytest.mark.parametrize("gone", "ab")
def test_when_one_leaves_the_others_have_the_work(gone: str) -> None:
    answer = policy_with(asked(chat("a", 1_050)))._backlog.work - 1_050
    policy = policy_with(*(asked(chat(name, 1_050)) for name in "abc"))
    policy.abort(gone)
    policy.plan(0.0, 0)
    assert policy._backlog.work == pytest.approx(1_000 + 2 * (50 + answer))


def test_what_begins_alike_only_at_first_is_counted_that_far() -> None:
    answer = policy_with(asked(chat("a", 1_050)))._backlog.work - 1_050
    policy = policy_with(asked(chat("a", 1_050)), asked(chat("b", 1_050), OTHER))
    assert policy._backlog.work == pytest.approx(1_000 + 500 + 2 * (50 + answer))


def test_who_overtakes_the_first_takes_its_work_over() -> None:
    policy = policy_with(asked(batch("first", 1_050)), asked(chat("urgent", 1_050)))
    before = policy._backlog.work
    assert ran(policy, 0.0) == {"urgent": 600}
    policy.plan(0.1, 0)
    assert policy._backlog.work == pytest.approx(before - 600)
    assert policy._backlog["first"].own_tokens == 50


def test_the_rank_falls_with_what_has_to_be_computed() -> None:
    policy = policy_with(asked(batch("a", 1_050)))
    rank = policy._backlog._waiting.get("a").rank  # type: ignore[union-attr]
    policy.add(asked(chat("b", 1_050)), 0.0)
    ran(policy, 0.0)
    policy.plan(0.1, 0)
    assert policy._backlog._waiting.get("a").rank < rank  # type: ignore[union-attr]


def test_context_is_what_the_engine_found() -> None:
    prefill = Prefill(replace(chat("a", 1_000), cached_tokens=900))
    prefill.correct(held_tokens=200, remaining_tokens=800)
    assert prefill.context_tokens == 200


def test_what_is_gone_between_two_keys_is_work_again() -> None:
    changed: list[str] = []
    prefixes = Prefixes(changed.append)
    waiting = Prefill(replace(asked(batch("waiting", 1_050)), cached_tokens=501))
    started = Prefill(asked(batch("started", 1_050)))
    for prefill in (waiting, started):
        prefixes.wait(prefill)
    prefixes.start(started)
    prefixes.found(started, 0)
    changed.clear()
    prefixes.refresh(waiting)
    assert changed == ["waiting"]


# ---- in which order


@pytest.mark.parametrize("grouped", [True, False])
def test_batch_prompts_follow_those_that_begin_alike(grouped: bool) -> None:
    prompts = (
        asked(batch("a", 600, ttlt_s=598.0), DOCUMENT[:1]),
        asked(batch("other", 600, ttlt_s=599.0), (PrefixKey(500, 9),)),
        asked(batch("a2", 550), DOCUMENT[:1]),
    )
    policy = policy_with(*prompts, share_prefixes=grouped)
    ran(policy, 0.0)
    assert list(ran(policy, 0.1)) == (["a2", "other"] if grouped else ["other"])


def test_an_interactive_prompt_lets_no_batch_prompt_pass() -> None:
    policy = policy_with(asked(batch("a", 600), DOCUMENT[:1]))
    ran(policy, 0.0)
    policy.add(asked(batch("b", 550), DOCUMENT[:1]), 0.1)
    policy.add(asked(chat("chat", 600), ()), 0.1)
    assert ran(policy, 0.1) == {"chat": 600}


# ---- bounds


@pytest.mark.parametrize("tokens", [1, 128, 129, 5_000, 100_000, 1_000_000])
def test_keys_are_few_and_dense_enough(tokens: int) -> None:
    positions = list(key_positions(tokens, 128))
    assert len(positions) <= 60
    assert all(at < tokens for at in positions)
    assert tokens - (positions or [0])[-1] <= max(128, tokens / 4)


class PrefixesMachine(RuleBasedStateMachine):
    """Prompts of a tree of prefixes: each has the keys of the path to it."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[str] = set()
        self.prefixes = Prefixes(self.changed.add)
        self.waiting: dict[str, Prefill] = {}
        self.started: dict[str, Prefill] = {}
        self.arrived = 0

    @rule(path=st.lists(st.integers(0, 1), max_size=3), cached=st.integers(0, 400))
    def arrive(self, path: list[int], cached: int) -> None:
        self.arrived += 1
        tokens, key, keys = 0, 1, []
        for branch in path:
            tokens, key = tokens + 100, 2 * key + branch
            keys.append(PrefixKey(tokens, key))
        cached = min(cached, tokens)
        request = replace(batch(f"{self.arrived:03d}", tokens + 50), cached_tokens=cached)
        prefill = Prefill(asked(request, tuple(keys)))
        self.waiting[prefill.request_id] = prefill
        self.prefixes.wait(prefill)
        self.prefixes.matched(prefill)

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, 99))
    def refresh(self, index: int) -> None:
        prefill = _any(self.waiting, index)
        own_tokens = prefill.own_tokens
        self.prefixes.refresh(prefill)
        assert prefill.own_tokens == own_tokens or prefill.request_id in self.changed

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, 99))
    def start(self, index: int) -> None:
        prefill = _any(self.waiting, index)
        self.prefixes.refresh(prefill)
        self.prefixes.start(prefill)
        self.started[prefill.request_id] = self.waiting.pop(prefill.request_id)

    @precondition(lambda self: self.started)
    @rule(index=st.integers(0, 99), tokens=st.integers(1, 400), cached=st.booleans())
    def compute(self, index: int, tokens: int, cached: bool) -> None:
        prefill = _any(self.started, index)
        if prefill.advance(min(tokens, prefill.remaining_tokens)):
            del self.started[prefill.request_id]
            self.prefixes.completed(prefill, cached=cached)
        else:
            self.prefixes.advanced(prefill)

    @precondition(lambda self: self.started)
    @rule(index=st.integers(0, 99), held_tokens=st.integers(0, 300))
    def find(self, index: int, held_tokens: int) -> None:
        prefill = _any(self.started, index)
        if not prefill.has_kv:
            self.prefixes.found(prefill, held_tokens)

    @precondition(lambda self: self.started)
    @rule(index=st.integers(0, 99))
    def lose_kv(self, index: int) -> None:
        prefill = _any(self.started, index)
        prefill.lose_kv()
        self.waiting[prefill.request_id] = self.started.pop(prefill.request_id)
        self.prefixes.wait(prefill)

    @precondition(lambda self: self.waiting or self.started)
    @rule(index=st.integers(0, 99))
    def leave(self, index: int) -> None:
        prefill = _any(self.waiting | self.started, index)
        self.waiting.pop(prefill.request_id, None)
        self.started.pop(prefill.request_id, None)
        self.prefixes.leave(prefill)

    @rule()
    def land(self) -> None:
        self.prefixes.land()

    @invariant()
    def what_changed_is_counted_anew(self) -> None:
        for name in sorted(self.changed & self.waiting.keys()):
            self.prefixes.wait(self.waiting[name])
        self.changed.clear()

    @invariant()
    def each_prefix_has_one_who_computes_it_or_will(self) -> None:
        landing = {prefill.request_id for prefill in self.prefixes._landing}
        for prefix in self.prefixes._prefixes.values():
            assert prefix.waiting.keys() <= self.waiting.keys()
            assert prefix.is_cached == (prefix.owner is None)
            if prefix.is_computing:
                assert prefix.owner in self.started.keys() | landing
            elif prefix.owner is not None:
                assert prefix.owner in prefix.waiting

    @invariant()
    def something_of_every_prompt_is_its_own(self) -> None:
        assert all(prefill.own_tokens > 0 for prefill in self.waiting.values())

    @invariant()
    def who_follows_waits(self) -> None:
        follower = self.prefixes.next_warm()
        assert follower is None or follower in self.waiting

    @invariant()
    def nothing_is_kept_of_prompts_that_have_left(self) -> None:
        landing = self.prefixes._landing
        here = [*self.waiting.values(), *self.started.values(), *landing]
        keys = {key.key for prefill in here for key in prefill.request.prefix_keys}
        assert self.prefixes._prefixes.keys() <= keys
        assert self.prefixes._warm.keys() <= self.prefixes._prefixes.keys()


def _any(prompts: dict[str, Prefill], index: int) -> Prefill:
    return prompts[sorted(prompts)[index % len(prompts)]]


TestPrefixes = PrefixesMachine.TestCase
TestPrefixes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
