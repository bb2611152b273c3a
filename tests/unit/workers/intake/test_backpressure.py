"""Interactive work is always taken, batch up to a budget, relegated with room to spare."""

from hypothesis import given
from hypothesis import strategies as st

from workers.execution.in_flight import Load
from workers.intake.backpressure import SHUT, Limits, Open, next_open

LIMITS = Limits(interactive_jobs=100, batch_jobs=20, batch_prompt_tokens=1000)
NONE = Load()


def _open(batch: Load, relegated: Load = NONE, now: Open = SHUT) -> Open:
    return next_open(LIMITS, NONE, batch, relegated, now)


def test_an_idle_worker_takes_everything() -> None:
    assert _open(NONE) == Open()


def test_a_full_batch_budget_shuts_batch_and_not_interactive() -> None:
    for full in (Load(jobs=20), Load(jobs=1, prompt_tokens=1000)):
        assert _open(full, now=Open()) == Open(interactive=True, batch=False, relegated=False)


def test_relegated_work_counts_as_batch_work_and_gets_half_the_budget() -> None:
    assert not _open(NONE, Load(jobs=10), now=Open()).relegated
    assert _open(NONE, Load(jobs=10), now=Open()).batch
    assert not _open(Load(jobs=10), Load(jobs=10), now=Open()).batch


def test_what_was_shut_opens_again_only_at_three_quarters() -> None:
    assert not _open(Load(jobs=16), now=SHUT).batch
    assert _open(Load(jobs=15), now=SHUT).batch
    assert _open(Load(jobs=19), now=Open()).batch


def test_interactive_jobs_have_a_safety_cap() -> None:
    assert not next_open(LIMITS, Load(jobs=100), NONE, NONE, Open()).interactive


@given(st.builds(Limits, *[st.integers(1, 5)] * 3), st.builds(Open, *[st.booleans()] * 3))
def test_nothing_in_hand_opens_everything_whatever_the_limits(limits: Limits, now: Open) -> None:
    assert next_open(limits, NONE, NONE, NONE, now) == Open()
