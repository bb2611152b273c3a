"""Interactive work is always taken, batch up to a budget, relegated with room to spare."""

from hypothesis import given
from hypothesis import strategies as st

from workers.execution.in_flight import TopicLoad
from workers.intake.backpressure import (
    ALL_CLOSED,
    ALL_OPEN,
    Budget,
    Limits,
    TopicGates,
    next_gates,
)

LIMITS = Limits(Budget(100, 5_000, 50_000), Budget(20, 1_000, 10_000))
NONE = TopicLoad()


def _next(
    batch: TopicLoad, relegated: TopicLoad = NONE, gates: TopicGates = ALL_CLOSED
) -> TopicGates:
    return next_gates(LIMITS, NONE, batch, relegated, gates)


def test_an_idle_worker_takes_everything() -> None:
    assert _next(NONE) == ALL_OPEN


def test_a_full_batch_budget_closes_batch_and_not_interactive() -> None:
    for full in (
        TopicLoad(jobs=20),
        TopicLoad(jobs=1, prompt_tokens=1_000),
        TopicLoad(jobs=1, memory_bytes=10_000),
    ):
        assert _next(full, gates=ALL_OPEN) == TopicGates(
            interactive=True, batch=False, relegated=False
        )


def test_relegated_work_counts_as_batch_work_and_gets_half_the_budget() -> None:
    assert not _next(NONE, TopicLoad(jobs=10), gates=ALL_OPEN).relegated
    assert _next(NONE, TopicLoad(jobs=10), gates=ALL_OPEN).batch
    assert not _next(TopicLoad(jobs=10), TopicLoad(jobs=10), gates=ALL_OPEN).batch


def test_a_closed_topic_opens_again_only_at_three_quarters() -> None:
    assert not _next(TopicLoad(jobs=16), gates=ALL_CLOSED).batch
    assert _next(TopicLoad(jobs=15), gates=ALL_CLOSED).batch
    assert _next(TopicLoad(jobs=19), gates=ALL_OPEN).batch


def test_interactive_jobs_have_a_budget_of_their_own() -> None:
    for full in (
        TopicLoad(jobs=100),
        TopicLoad(jobs=1, prompt_tokens=5_000),
        TopicLoad(jobs=1, memory_bytes=50_000),
    ):
        gates = next_gates(LIMITS, full, NONE, NONE, ALL_OPEN)
        assert gates == TopicGates(interactive=False, batch=True, relegated=True)


BUDGETS = st.builds(Budget, *[st.integers(1, 5)] * 3)


@given(st.builds(Limits, BUDGETS, BUDGETS), st.builds(TopicGates, *[st.booleans()] * 3))
def test_nothing_in_flight_opens_everything_whatever_the_limits(
    limits: Limits, gates: TopicGates
) -> None:
    assert next_gates(limits, NONE, NONE, NONE, gates) == ALL_OPEN
