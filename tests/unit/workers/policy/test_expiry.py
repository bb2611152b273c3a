"""Requests that are not worth serving late, on virtual time."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, PLENTY, batch, chat, either, serve
from workers.policy.decision import Decision, DecisionKind
from workers.policy.expiry import Expiries
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Request
from workers.policy.settings import Overload, Settings


def _batch(name: str, prompt: int, *, ttlt_s: float = 600.0, expires_s: float | None) -> Request:
    return batch(name, prompt, ttlt_s=ttlt_s, expire_after_s=expires_s)


def _expired(plan: IterationPlan) -> list[Decision]:
    return [d for d in plan.decisions if d.kind is DecisionKind.EXPIRED]


def test_a_request_that_has_not_started_in_time_is_dropped_with_reason_and_forecast() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("first", 30_000, ttlt_s=100.0, expires_s=None), 0.0)
    policy.add(_batch("late", 10_000, expires_s=0.5), 0.0)
    now_s, expired = 0.0, []
    while not expired:
        backlog_s = policy.backlog_s()
        plan, now_s = serve(policy, now_s)
        expired = _expired(plan)
    (decision,) = expired
    assert decision.request_id == "late"
    assert decision.reason == "prefill had not started 0.5 s after arrival"
    assert 0.5 < decision.at_s < 0.8
    # After the first prompt (24,880 tokens are left) and the answer to it; then its own 10,000
    # tokens and an answer of 256 tokens, 0.1 s each.
    forecast = decision.forecast
    assert forecast is not None
    assert 24_880 * 0.0001 < forecast.queue_wait_s < backlog_s
    own_s = forecast.finish_s - decision.at_s - forecast.queue_wait_s
    assert 10_000 * 0.0001 + 25.6 < own_s < 28.0
    assert policy.plan(now_s, PLENTY).chunks[0].request_id == "first"


def test_a_request_that_is_late_when_it_comes_expires_in_the_first_plan() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("late", 1_000, ttlt_s=100.0, expires_s=10.0), 50.0)
    plan = policy.plan(50.0, PLENTY)
    assert (plan.chunks, len(_expired(plan))) == ((), 1)
    assert policy.backlog_s() == 0
    assert policy.plan(50.1, PLENTY) == IterationPlan(predicted_s=plan.predicted_s)


def test_it_may_start_at_the_very_moment() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("b", 1_000, expires_s=10.0), 10.0)
    assert policy.plan(10.0, PLENTY).chunks == (Chunk("b", 1_000),)


def test_what_was_relegated_as_too_late_expires_too() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("first", 300_000, ttlt_s=200.0, expires_s=None), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(chat("chat", 1_000, ttft_s=0.01, expire_after_s=1.0), now_s)
    relegated, _ = serve(policy, now_s)
    assert [d.reason for d in relegated.decisions] == ["too late to be met"]
    plan, _ = serve(policy, 1.1)
    assert [d.request_id for d in _expired(plan)] == ["chat"]


def test_a_parked_prompt_and_a_decode_that_lost_its_memory_do_not_expire() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("parked", 10_000, expires_s=0.5), 0.0)
    _, now_s = serve(policy, 0.0)
    policy.add(chat("chat", 2_000, arrival_s=now_s, expire_after_s=0.5 - now_s), now_s)
    _, now_s = serve(policy, now_s)
    policy.retract("chat", now_s)
    policy.retract("parked", now_s)
    plan, _ = serve(policy, 5.0)
    assert _expired(plan) == []
    assert plan.chunks[0].request_id == "chat"


def test_a_prompt_that_was_planned_and_not_taken_can_still_expire() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("b", 1_000, expires_s=1.0), 0.0)
    assert policy.plan(0.9, PLENTY).chunks == (Chunk("b", 1_000),)
    policy.observe(IterationResult(1.1, 0.2, chunks=()))
    assert [d.request_id for d in _expired(policy.plan(1.1, PLENTY))] == ["b"]


def test_an_aborted_request_does_not_expire_and_its_id_can_come_again() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(_batch("b", 1_000, expires_s=1.0), 0.0)
    policy.abort("b")
    policy.add(_batch("b", 1_000, expires_s=9.0), 0.5)
    plan = policy.plan(2.0, PLENTY)
    assert (plan.chunks, _expired(plan)) == ((Chunk("b", 1_000),), [])


def test_memory_follows_the_requests_that_are_left() -> None:
    expiries = Expiries()
    for index in range(10_000):
        expiries.add(_batch(f"{index}", 1, expires_s=1e6 - index))
        if index >= 10:
            expiries.remove(f"{index - 10}")
    assert len(expiries) == 10
    assert len(expiries._order) == 10
    assert expiries.take_due(1e7, 4) == ["9999", "9998", "9997", "9996"]
    assert expiries.take_due(1e7, 9) == [f"{index}" for index in range(9_995, 9_989, -1)]
    assert expiries._order == []


requests_st = st.lists(
    st.tuples(
        st.integers(1, 9_000),  # prompt tokens
        st.sampled_from([(0.5, 0.05), (6.0, 0.05), (60.0, None)]),
        st.none() | st.floats(0.01, 3.0),  # expires after
        st.floats(0, 0.5),  # seconds after the one before
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=100)
@given(
    requests_st,
    st.sampled_from(list(Overload)),
    st.lists(st.sampled_from(["run", "run", "run", "refuse", "retract", "abort"]), max_size=40),
)
def test_every_request_starts_in_time_or_expires_once(
    items: list[tuple[int, tuple[float, float | None], float | None, float]],
    overload: Overload,
    fates: list[str],
) -> None:
    """Whatever the engine does with what is planned: takes it, refuses it, loses it, aborts it."""
    policy = NiyamaPolicy(FLAT_MODEL, Settings(overload=overload))
    arrivals = _requests(items)
    requests = {request.request_id: request for request in arrivals}
    started_s: dict[str, float] = {}
    expired: Counter[str] = Counter()
    now_s = 0.0
    while arrivals or requests.keys() - started_s.keys() - expired.keys():
        while arrivals and arrivals[0].qos.arrival_s <= now_s:
            policy.add(arrivals.pop(0), now_s)
        plan = policy.plan(now_s, PLENTY)
        expired.update(decision.request_id for decision in _expired(plan))
        assert not expired.keys() & started_s.keys()
        fate = fates.pop() if fates else "run"
        chunks = () if fate == "refuse" else plan.chunks
        for chunk in chunks:
            started_s.setdefault(chunk.request_id, now_s)
        now_s += plan.predicted_s
        policy.observe(IterationResult(now_s, plan.predicted_s, chunks))
        for chunk in chunks if fate == "retract" else ():
            policy.retract(chunk.request_id, now_s)
        for chunk in chunks if fate == "abort" else ():
            policy.abort(chunk.request_id)
    assert set(expired.values()) <= {1}
    assert not expired.keys() & started_s.keys()
    for name, at_s in started_s.items():
        assert at_s <= (requests[name].qos.expires_s or at_s)


def _requests(
    items: list[tuple[int, tuple[float, float | None], float | None, float]],
) -> list[Request]:
    requests, arrival_s = [], 0.0
    for index, (prompt, (target_s, tbt_s), after_s, gap_s) in enumerate(items):
        arrival_s += gap_s
        requests.append(
            either(
                f"{index:02d}",
                prompt,
                arrival_s=arrival_s,
                target_s=target_s,
                tbt_s=tbt_s,
                expire_after_s=after_s,
            )
        )
    return requests
