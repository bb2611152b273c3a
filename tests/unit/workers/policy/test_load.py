"""How busy a policy says that it is."""

import math
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.offered_load import Replica, offer
from tests.support.requests import FLAT_MODEL, SLOW_MIX_MODEL, batch, chat, serve
from workers.latency.model import LatencyModel
from workers.policy.load import CHAT_TTFT_S, HORIZONS_S
from workers.policy.lookahead import Due, Lookahead
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import Kind
from workers.policy.request import Prefill, Request


def test_an_idle_replica_predicts_what_a_prompt_takes() -> None:
    load = NiyamaPolicy(FLAT_MODEL).load(0.0)
    # 10 ms for each iteration of 2,560 tokens, 0.1 ms for each token.
    assert dict(load.chats) == pytest.approx(
        {128: 0.0228, 1024: 0.1124, 8192: 0.8192 + 8192 / 2560 * 0.010}
    )
    assert (load.waiting, load.prefilling, load.overdue, load.demand) == (0, 0, 0, 0.0)
    assert load.backlog_s == {}


def test_work_is_told_apart_by_kind_and_by_when_it_is_due() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("soon", 1_000, ttft_s=5.0), 0.0)
    policy.add(batch("later", 3_000, ttlt_s=300.0), 0.0)
    load = policy.load(0.0)
    soon, later = load.backlog_s[Kind.INTERACTIVE], load.backlog_s[Kind.BATCH]
    assert load.waiting == 2
    assert soon[0] == 0.0
    assert 0 < soon[1] < soon[2] == soon[-1]  # its answer is due after the first token
    assert later[:3] == (0.0, 0.0, 0.0)
    assert later[3] == later[-1] > soon[-1]


def test_a_chat_waits_for_what_is_due_before_it_and_not_for_batch() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    idle = dict(policy.load(0.0).chats)
    policy.add(batch("b", 5_000), 0.0)
    assert dict(policy.load(0.0).chats) == idle
    policy.add(chat("c", 5_000, ttft_s=0.9), 0.0)
    waits_s = 0.5 + 5_000 / 2_560 * 0.010
    assert dict(policy.load(0.0).chats) == pytest.approx(
        {size: (ttft_s or 0.0) + waits_s for size, ttft_s in idle.items()}
    )


def test_what_can_no_longer_be_met_is_counted_apart() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    policy.add(chat("late", 5_000, ttft_s=0.1), 0.0)
    for number in range(3):
        policy.plan(1.0 + number, 0)
    load = policy.load(4.0)
    assert (load.waiting, load.overdue, load.backlog_s) == (0, 1, {})
    assert load.demand == pytest.approx(
        policy._learned.work(policy._backlog["late"]) / 10 / load.tokens_per_s
    )


def test_late_work_counts_until_it_has_left() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for number in range(400):
        policy.add(chat(f"{number}", 5_000, ttft_s=2.0), 0.0)
    demands = []
    for number in range(3):
        policy.plan(number * 3.0, 0)
        demands.append(policy.load(number * 3.0).demand)
    # More has become late than plans have given up so far.
    assert demands[0] > 25
    assert min(demands[1:]) > 15
    for number in range(400):
        policy.abort(f"{number}")
    assert policy.load(9.0).demand == pytest.approx(0.0, abs=1e-9)


def test_late_batch_work_has_longer_to_catch_up_than_a_late_chat() -> None:
    demands = []
    for late in (chat("late", 5_000, ttft_s=0.1), batch("late", 5_000, ttlt_s=0.1)):
        policy = NiyamaPolicy(FLAT_MODEL)
        policy.add(late, 0.0)
        for number in range(3):
            policy.plan(1.0 + number, 0)
        demands.append(policy.load(4.0).demand)
    assert demands[1] == pytest.approx(demands[0] / 60)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4_000)), max_size=12))
def test_asking_changes_no_plan_and_nothing_is_left_once_all_have_left(
    prompts: list[tuple[bool, int]],
) -> None:
    asked, not_asked = NiyamaPolicy(FLAT_MODEL), NiyamaPolicy(FLAT_MODEL)
    now_s = 0.0
    for number, (is_chat, tokens) in enumerate(prompts):
        for policy in (asked, not_asked):
            make = chat if is_chat else batch
            policy.add(make(f"{number}", tokens, arrival_s=now_s), now_s)
        asked.load(now_s)
        plan, ended_s = serve(asked, now_s)
        assert (plan, ended_s) == serve(not_asked, now_s)
        now_s = ended_s
    for number in range(len(prompts)):
        asked.abort(f"{number}")
    assert all(sum(works) < 1e-6 for works in asked.load(now_s).backlog_s.values())


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "start", "progress", "remove", "review"]),
        st.integers(0, 6),
        st.floats(1, 9_000),
        st.sampled_from(list(Kind)),
    ),
    max_size=60,
)


@given(_STEPS)
def test_the_kinds_add_up_to_all_work_through_any_history(
    steps: list[tuple[str, int, float, Kind]],
) -> None:
    lookahead, now_s = Lookahead(base_s=20.0, share=0.5), 0.0
    for action, number, amount, kind in steps:
        name = str(number)
        if action == "add" and name not in lookahead:
            due_s = now_s + amount
            prompt, answer = Due(due_s, amount), Due(due_s + 100, amount / 3)
            lookahead.add(name, now_s=now_s, rank=number, kind=kind, prompt=prompt, answer=answer)
        elif action == "start":
            lookahead.start(name)
        elif action == "progress":
            lookahead.progress(name, amount)
        elif action == "remove":
            lookahead.remove(name)
        elif action == "review":
            now_s += amount / 100
            lookahead.review(now_s, 10_000.0, 10**6)
        due = lookahead.due_within(HORIZONS_S, now_s)
        assert all(works == sorted(works) for works in due.values())
        total = sum(works[-1] for works in due.values())
        assert math.isclose(total, lookahead.work, rel_tol=1e-6, abs_tol=1e-3)
        assert lookahead.fitting_by(math.inf) <= total + 1e-3


def _demand_of(offered: float) -> float:
    """The median demand of a replica that is offered a multiple of what it can do."""
    replica, demands = Replica(FLAT_MODEL, answer_tokens=40), list[float]()
    sizes = (200, 500, 1_000, 2_000, 4_000)
    offer(
        replica,
        offered * 9_000 / 1_540,  # tokens per second, and of a prompt
        sizes,
        until_s=20.0,
        iterated=lambda: demands.append(replica.policy.load(replica.now_s).demand),
    )
    return statistics.median(demands[len(demands) // 2 :])


def test_demand_rises_with_the_offered_load_far_beyond_what_can_be_done() -> None:
    demands = [_demand_of(offered) for offered in (0.7, 1.4, 4.0, 12.0)]
    assert demands == sorted(demands)
    assert demands[1] < 1 < demands[2]


def _predicted_and_actual(
    model: LatencyModel, chats_per_s: float, tbt_s: float, seed: int
) -> Iterator[tuple[int, float | None, float | None]]:
    """Of every chat: its prompt tokens, the TTFT predicted as it arrived, and the TTFT it got."""
    replica = Replica(model, answer_tokens=100)
    predicted: dict[str, float | None] = {}
    arrived: dict[str, Request] = {}

    def arrives(request: Request) -> None:
        chats = dict(replica.policy.load(replica.now_s).chats)
        predicted[request.request_id] = chats[request.prompt_tokens]
        arrived[request.request_id] = request

    sizes, ttft_s = (128, 128, 128, 1024, 1024, 8192), CHAT_TTFT_S
    offer(replica, chats_per_s, sizes, 20.0, ttft_s=ttft_s, tbt_s=tbt_s, seed=seed, arrives=arrives)
    for name, request in arrived.items():
        first_s = replica.first_token_s.get(name)
        got_s = first_s - request.qos.arrival_s if first_s is not None else None
        yield request.prompt_tokens, predicted[name], got_s


@pytest.mark.parametrize(
    ("model", "chats_per_s", "tbt_s"),
    [(FLAT_MODEL, 2.5, 0.1), (FLAT_MODEL, 8.0, 0.1), (SLOW_MIX_MODEL, 3.0, 0.5)],
)
def test_a_chat_gets_its_first_token_when_that_was_predicted(
    model: LatencyModel, chats_per_s: float, tbt_s: float
) -> None:
    ratios: dict[int, list[float]] = {128: [], 1024: [], 8192: []}
    for seed in (3, 4, 5):
        for size, predicted_s, got_s in _predicted_and_actual(model, chats_per_s, tbt_s, seed):
            if predicted_s and got_s:
                ratios[size].append(got_s / predicted_s)
    for size in (128, 1024):
        assert len(ratios[size]) > 40
        assert 0.7 < statistics.median(ratios[size]) < 1.5
        assert statistics.quantiles(ratios[size], n=10)[-1] < 3


def test_in_overload_long_prompts_have_no_ttft_and_short_ones_still_have() -> None:
    predicted = list(_predicted_and_actual(FLAT_MODEL, 14.0, 0.1, seed=3))
    for size, least, most in ((8192, 0.7, 1.0), (128, 0.0, 0.3)):
        ttfts_s = [predicted_s for tokens, predicted_s, _ in predicted if tokens == size]
        assert least <= ttfts_s.count(None) / len(ttfts_s) <= most


def test_a_replica_that_has_served_everything_is_as_idle_as_a_new_one() -> None:
    policy = NiyamaPolicy(FLAT_MODEL)
    for number in range(7):
        policy.add(chat(f"late{number}", 700 + number, ttft_s=0.01 * number), 0.0)
        policy.add(batch(f"batch{number}", 1_300 + number, ttlt_s=0.3 * number), 0.0)
    ids = tuple(f"{kind}{number}" for kind in ("late", "batch") for number in range(7))
    now_s = 0.0
    for _ in range(40):
        _, now_s = serve(policy, now_s)
    assert policy.decodes == len(ids)
    assert policy.load(now_s).demand > 0
    policy.observe(IterationResult(now_s, 0.0, finished=ids))

    load = policy.load(now_s)
    assert (load.waiting, load.prefilling, load.overdue, load.demand) == (0, 0, 0, 0.0)
    assert load.backlog_s == {}
    assert all(each.ttft_s is not None for each in load.chats[:2])


def _rank_of(policy: NiyamaPolicy, request: Request, now_s: float) -> int:
    return policy._backlog._ranking.entry(Prefill(request), now_s, may_expire=False).rank


@pytest.mark.parametrize("tokens", [128, 1_024])
def test_a_chat_is_promised_a_ttft_only_where_all_that_cost_as_much_have_one(tokens: int) -> None:
    """Some of those are beyond the cutoff here, and some are not, where they have 1,024 tokens."""
    policy, now_s = NiyamaPolicy(FLAT_MODEL), 0.0
    for number in range(1_000):
        policy.add(batch(f"{number}", 1_024, ttlt_s=120.0), now_s)
    for _ in range(60):
        now_s += 0.3
        policy.plan(now_s, 0)
    ranks = [
        _rank_of(policy, chat(f"c{name}", tokens, arrival_s=now_s, ttft_s=1.0), now_s)
        for name in range(20)
    ]
    is_promised = dict(policy.load(now_s).chats)[tokens] is not None
    assert is_promised is all(rank <= policy._backlog.cutoff for rank in ranks)
    assert is_promised is (tokens == 128)
