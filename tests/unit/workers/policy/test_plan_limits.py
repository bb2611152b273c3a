"""A plan does a bounded amount of work, and what it leaves over is done soon, and once."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requests import FLAT_MODEL, batch, chat, either
from workers.policy.decision import DecisionKind
from workers.policy.limits import PlanLimits
from workers.policy.lookahead import Due, Lookahead
from workers.policy.plan import IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import Kind
from workers.policy.request import Request

PLENTY = 1_000_000
TIGHT = PlanLimits(chunks=3, decisions=2, set_aside=5, blocked=2, sums=10, in_progress=2)
ONCE = (DecisionKind.EXPIRED, DecisionKind.RELEGATED)


class Run:
    """A policy whose plans are carried out, one every 50 ms; answers have one token."""

    def __init__(self, limits: PlanLimits) -> None:
        self.policy = NiyamaPolicy(FLAT_MODEL, limits=limits)
        self.now_s = 0.0
        self.plans = 0
        self.started: dict[str, int] = {}
        """The first plan that had a chunk of it."""
        self.decided: dict[tuple[str, DecisionKind], list[int]] = {}
        """The plans that decided so."""
        self.left: dict[str, int] = {}
        """Prompt tokens to compute of the requests that are here."""

    def add(self, *requests: Request) -> None:
        for request in requests:
            self.policy.add(request, self.now_s)
            self.left[request.request_id] = request.prompt_tokens

    def step(self) -> IterationPlan:
        plan = self.policy.plan(self.now_s, PLENTY)
        for decision in plan.decisions:
            self.decided.setdefault((decision.request_id, decision.kind), []).append(self.plans)
            if decision.kind is DecisionKind.EXPIRED:
                del self.left[decision.request_id]
        for request_id, tokens in plan.chunks:
            self.started.setdefault(request_id, self.plans)
            self.left[request_id] -= tokens
        done = [request_id for request_id, tokens in self.left.items() if not tokens]
        for request_id in done:
            del self.left[request_id]
        self.now_s += 0.05
        self.plans += 1
        self.policy.observe(IterationResult(self.now_s, 0.05, plan.chunks, tuple(done)))
        return plan

    def plans_of(self, kind: DecisionKind) -> dict[str, list[int]]:
        return {name: plans for (name, k), plans in self.decided.items() if k is kind}


def test_requests_that_expire_together_leave_a_few_per_plan_and_hold_nobody_up() -> None:
    run = Run(PlanLimits(chunks=2, decisions=5, set_aside=40))
    run.add(*(batch(f"{n:03d}", 100, ttlt_s=600, expire_after_s=1.0) for n in range(200)))
    run.now_s = 2.0
    run.add(batch("good", 100, arrival_s=2.0, ttlt_s=9_000))
    for _ in range(40):
        assert sum(d.kind is DecisionKind.EXPIRED for d in run.step().decisions) <= 10
    assert run.plans_of(DecisionKind.EXPIRED).keys() == {f"{n:03d}" for n in range(200)}
    assert all(len(plans) == 1 for plans in run.plans_of(DecisionKind.EXPIRED).values())
    assert run.started == {"good": run.started["good"]}
    assert run.started["good"] <= 200 / 40
    assert abs(run.policy.backlog_s()) < 1e-6


def test_a_plan_of_few_prompts_tells_more_requests_that_they_have_expired() -> None:
    run = Run(PlanLimits(chunks=31, decisions=5))
    run.add(*(batch(f"{n:03d}", 100, ttlt_s=600, expire_after_s=1.0) for n in range(60)))
    run.now_s = 2.0
    run.add(batch("good", 100_000, arrival_s=2.0, ttlt_s=9_000))
    told = [sum(d.kind is DecisionKind.EXPIRED for d in run.step().decisions) for _ in range(4)]
    assert told == [20, 20, 20, 0]


def test_a_shared_deadline_that_passes_is_decided_a_few_per_plan_and_holds_nobody_up() -> None:
    run = Run(PlanLimits(decisions=5, set_aside=40))
    run.add(*(chat(f"{n:03d}", 260_000, ttft_s=1.0) for n in range(200)))
    run.now_s = 2.0
    run.add(batch("good", 200_000, arrival_s=2.0, ttlt_s=90))
    for _ in range(45):
        run.step()
    relegated = run.plans_of(DecisionKind.RELEGATED)
    assert relegated.keys() == {f"{n:03d}" for n in range(200)}
    assert max(Counter(plan for plans in relegated.values() for plan in plans).values()) <= 10
    assert run.started == {"good": run.started["good"]}
    assert run.started["good"] <= 200 / 40


def test_an_iteration_has_a_bounded_number_of_prompts() -> None:
    run = Run(PlanLimits(chunks=7))
    run.add(*(batch(f"{n:03d}", 5) for n in range(20)))
    assert [len(run.step().chunks) for _ in range(4)] == [7, 7, 6, 0]
    assert run.policy.plan(1.0, PLENTY).full is False


def test_the_number_of_prompts_in_progress_is_bounded() -> None:
    run = Run(PlanLimits(in_progress=3))
    for number in range(8):
        deadline_s = 1_000.0 - number
        run.add(batch(f"{number}", 50_000, arrival_s=run.now_s, ttlt_s=deadline_s))
        run.step()
    assert run.started.keys() == {"0", "1", "2"}


def test_the_cutoff_falls_to_the_same_rank_in_several_reviews() -> None:
    at_once, in_steps = (Lookahead(base_s=20.0, share=0.5) for _ in range(2))
    for number in range(300):
        for lookahead in (at_once, in_steps):
            due_s = 2.0 + number % 17
            lookahead.add(
                f"{number}", now_s=0.0, rank=number % 40, kind=Kind.BATCH, prompt=Due(due_s, 500.0)
            )
    assert at_once.review(0.0, 1_000.0, PLENTY)
    reviews = 1
    while not in_steps.review(0.0, 1_000.0, limit=100):
        reviews += 1
        assert in_steps.cutoff >= at_once.cutoff
    assert 1 < reviews < 40
    assert in_steps.cutoff == at_once.cutoff


def test_due_times_that_have_passed_are_forgotten_a_few_per_review_and_count_no_more() -> None:
    lookahead = Lookahead(base_s=20.0, share=0.5)
    for number in range(100):
        lookahead.add(
            f"{number}", now_s=0.0, rank=number % 10, kind=Kind.BATCH, prompt=Due(1.0 + number, 1e6)
        )
    lookahead.add("later", now_s=200.0, rank=1, kind=Kind.BATCH, prompt=Due(1_000.0, 100.0))
    due_times = len(lookahead._due_times)
    lookahead.review(200.0, 1_000.0, limit=22)
    assert len(lookahead._due_times) == due_times - 3
    assert lookahead.pressure < 0.01
    for _ in range(due_times):
        lookahead.review(200.0, 1_000.0, limit=22)
    assert lookahead.work == 100.0


def test_requests_that_are_late_when_they_come_leave_nothing_in_the_lookahead() -> None:
    lookahead = Lookahead(base_s=20.0, share=0.5)
    for number in range(1_000):
        lookahead.add(
            f"{number}", now_s=5_000.0, rank=3, kind=Kind.BATCH, prompt=Due(float(number), 100.0)
        )
    assert (lookahead._due_times, lookahead.work) == ([], 0.0)


storms = st.tuples(
    st.integers(0, 60),  # chats whose deadline passes
    st.integers(0, 60),  # batch jobs that expire
    st.integers(1, 9),  # what can still be met
    st.integers(1, 1_000),  # prompt tokens
)


@settings(max_examples=40)
@given(storms, st.booleans())
def test_a_storm_delays_what_can_be_met_by_a_bounded_number_of_plans(
    storm: tuple[int, int, int, int], hopeless_first: bool
) -> None:
    late, expiring, good, tokens = storm
    limits = replace(PlanLimits(), decisions=3, set_aside=10)
    bounded, reference = Run(limits), Run(PlanLimits.none())
    for run in (bounded, reference):
        run.add(*(chat(f"late {n:02d}", tokens, ttft_s=0.5) for n in range(late)))
        target_s = 100.0 if hopeless_first else 900.0
        run.add(
            *(
                batch(f"expired {n:02d}", tokens, ttlt_s=target_s, expire_after_s=0.5)
                for n in range(expiring)
            )
        )
        run.now_s = 1.0
        run.add(*(batch(f"good {n}", tokens, arrival_s=1.0, ttlt_s=600.0) for n in range(good)))
        for _ in range(100 + (late + expiring + good) * tokens // 400):
            run.step()
    carried = 1 + (late + expiring) // limits.set_aside
    for number in range(good):
        name = f"good {number}"
        assert bounded.started[name] <= reference.started[name] + carried
    for kind in ONCE:
        first, second = bounded.plans_of(kind), reference.plans_of(kind)
        assert first.keys() == second.keys()
        for name, plans in first.items():
            assert len(plans) == 1
            assert plans[0] <= second[name][0] + (late + expiring) // limits.decisions + carried
    assert bounded.left == reference.left == {}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3_000),  # prompt tokens
            st.sampled_from([(0.2, 0.05), (2.0, 0.05), (60.0, None)]),
            st.none() | st.floats(0.01, 2.0),  # expires after
            st.integers(0, 4),  # plans after the one before
            st.booleans(),  # aborted two plans later
        ),
        max_size=40,
    )
)
def test_with_the_tightest_limits_nobody_is_forgotten_and_nothing_is_decided_twice(
    items: list[tuple[int, tuple[float, float | None], float | None, int, bool]],
) -> None:
    run = Run(TIGHT)
    for index, (tokens, (target_s, tbt_s), expire_after_s, plans, aborted) in enumerate(items):
        for _ in range(plans):
            _checked_step(run)
        owner = {} if expire_after_s is None else {"expire_after_s": expire_after_s}
        name = f"{index:02d}"
        run.add(either(name, tokens, arrival_s=run.now_s, target_s=target_s, tbt_s=tbt_s, **owner))
        if aborted:
            run.policy.abort(name)
            run.left.pop(name)
    for _ in range(60 + 4 * len(items)):
        _checked_step(run)
    assert run.left == {}
    assert abs(run.policy.backlog_s()) < 1e-6
    assert all(len(plans) == 1 for plans in run.plans_of(DecisionKind.EXPIRED).values())
    assert not run.plans_of(DecisionKind.EXPIRED).keys() & run.started.keys()


def _checked_step(run: Run) -> None:
    """Whatever is due is decided, or as much as a plan decides; and limits are kept."""
    plan, backlog = run.step(), run.policy._backlog
    assert len(plan.chunks) <= TIGHT.chunks
    counts = Counter(decision.kind for decision in plan.decisions)
    assert counts[DecisionKind.EXPIRED] <= 2 * TIGHT.decisions
    assert counts[DecisionKind.RELEGATED] <= 2 * TIGHT.decisions
    assert len(backlog.started) <= TIGHT.in_progress + TIGHT.chunks
    planned_s = run.now_s - 0.05
    if any(at_s < planned_s for at_s in backlog._expiries._times_s.values()):
        assert counts[DecisionKind.EXPIRED] >= TIGHT.decisions
    if backlog._aside:
        decided = counts[DecisionKind.EXPIRED] + counts[DecisionKind.RELEGATED]
        assert decided >= 1
