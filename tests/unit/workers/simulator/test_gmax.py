"""The rules by which JITServe chooses, one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.requests import batch, chat
from workers.policy.qos import RequestQos, Task
from workers.policy.request import Request
from workers.simulator.gmax import (
    FIRST_ESTIMATE_TOKENS,
    CallCounts,
    Margin,
    Pace,
    Progress,
    UpperBounds,
    best_group,
    margin_of,
)

_PACE = Pace(iteration_s=0.05, chunk_tokens=500)


def _margin(progress: Progress, now_s: float, penalty: float = 100.0) -> Margin:
    return margin_of(progress, _PACE, now_s, penalty=penalty, horizon_s=2.5)


def _whole(ttlt_s: float, *, prompt_left: int = 1_000, generated: int = 0) -> Progress:
    request = batch("a", 1_000, ttlt_s=ttlt_s)
    return Progress(request, ttlt_s, prompt_left, generated, bound=100)


def test_before_there_is_any_history_answers_may_be_long() -> None:
    bounds, request = UpperBounds(0.95), batch("a", 1_000)
    assert bounds.tokens(request, 0) == FIRST_ESTIMATE_TOKENS


def test_the_bound_is_refined_as_tokens_come() -> None:
    bounds, request = UpperBounds(0.5), batch("a", 1_000)
    for length in (10, 20, 30, 400):
        bounds.observe(request, length)
    assert bounds.tokens(request, 0) == 20
    assert bounds.tokens(request, 10) == 30  # the median of 20, 30 and 400
    assert bounds.tokens(request, 30) == 400
    assert bounds.tokens(request, 400) == 401


def test_only_recent_answers_count() -> None:
    bounds, request = UpperBounds(0.95), batch("a", 1_000)
    for length in [5_000] * 100 + [10] * 1_000:
        bounds.observe(request, length)
    assert bounds.tokens(request, 0) == 10


@given(
    lengths=st.lists(st.integers(1, 2_000), max_size=30),
    generated=st.integers(0, 2_000),
    quantile=st.floats(0.01, 1.0),
)
def test_a_bound_is_beyond_what_has_come(
    lengths: list[int], generated: int, quantile: float
) -> None:
    bounds, request = UpperBounds(quantile), batch("a", 1_000)
    for length in lengths:
        bounds.observe(request, length)
    assert bounds.tokens(request, generated) > generated


def test_gain_per_second_of_the_whole_answer() -> None:
    # Two chunks and 100 tokens, each 0.05 s; an answer's token counts 8.
    assert _margin(_whole(60.0), 0.0).density == pytest.approx((1_000 + 800) / 5.1)


def test_the_nearer_the_end_the_denser() -> None:
    begun = _margin(_whole(60.0), 0.0)
    near = _margin(_whole(60.0, prompt_left=0, generated=90), 0.0)
    assert near > begun


def test_lateness_takes_the_gain_away() -> None:
    in_time, late = _margin(_whole(5.2), 0.0), _margin(_whole(4.0), 0.0)
    assert late.density < 1e-6 * in_time.density
    # By a power of allowed over taken time.
    mild = _margin(_whole(4.0), 0.0, penalty=2.0)
    assert mild.density == pytest.approx(in_time.density * (4.0 / 5.1) ** 2)


def test_whoever_can_wait_for_the_next_choice_is_not_urgent() -> None:
    assert not _margin(_whole(60.0), 0.0).urgent
    assert _margin(_whole(60.0), 60.0 - 5.1 - 2.4).urgent


def test_what_is_late_anyway_is_not_urgent() -> None:
    assert not _margin(_whole(60.0), 58.0).urgent


def test_a_chat_is_urgent_when_its_next_token_is_due_before_the_next_choice() -> None:
    request = chat("a", 1_000, ttft_s=6.0, tbt_s=0.1)
    ahead = Progress(request, 6.0, 0, 50, bound=100)  # token 51 is due at 6 + 50 * 0.1
    assert not _margin(ahead, 8.4).urgent
    assert _margin(ahead, 8.6).urgent


def test_a_chat_that_started_has_the_rest_of_its_answer_to_gain() -> None:
    request = chat("a", 1_000, ttft_s=6.0, tbt_s=0.1)
    rest = Progress(request, 6.0, 0, 60, bound=100)
    assert _margin(rest, 5.0).density == pytest.approx(8 * 40 / (40 * 0.05))


def _call(
    name: str, call: int, *, calls_left: int | None = None, arrival_s: float = 0.0
) -> Request:
    task = Task(name, call, calls_left)
    return Request(name, RequestQos.call(arrival_s, task=task, deadline_s=60.0), 1_000)


def test_the_time_of_a_task_is_shared_with_the_calls_that_usually_follow() -> None:
    counts = CallCounts()
    assert counts.share_s(_call("new", 1)) == 60.0
    for name, calls in (("a", 1), ("b", 3)):
        for call in range(1, calls + 1):
            counts.observe(_call(name, call))
    # Of two first calls one was followed by two others.
    assert counts.share_s(_call("c", 1)) == 30.0
    assert counts.share_s(_call("c", 2, arrival_s=20.0)) == 40.0
    assert counts.share_s(_call("c", 3, arrival_s=20.0)) == 60.0
    assert counts.share_s(_call("c", 9, arrival_s=20.0)) == 60.0


def test_a_task_that_says_how_many_calls_follow_is_believed() -> None:
    assert CallCounts().share_s(_call("a", 1, calls_left=5)) == 10.0


def test_a_call_is_urgent_by_its_share_and_late_by_the_deadline_of_its_task() -> None:
    request = _call("a", 1)
    fair = _margin(Progress(request, 20.0, 1_000, 0, bound=100), 0.0)
    urgent = _margin(Progress(request, 5.2, 1_000, 0, bound=100), 0.0)
    assert urgent == Margin(True, fair.density)


def test_the_group_is_of_similar_length() -> None:
    """With room for two, the best three: the two long ones gain more together."""
    candidates = [
        (Margin(False, 10.0), 100, "short"),
        (Margin(False, 9.0), 4_000, "long"),
        (Margin(False, 8.0), 4_100, "longer"),
        (Margin(False, 1.0), 90, "worst"),
    ]
    assert best_group(candidates, 2, breadth=1) == ["short", "long"]
    assert best_group(candidates[:3], 2, breadth=2) == ["short", "long"]
    assert best_group([(Margin(False, 7.5), 100, "short"), *candidates[1:]], 2, breadth=2) == [
        "long",
        "longer",
    ]


def test_the_urgent_go_first() -> None:
    candidates = [
        (Margin(False, 10.0), 100, "dense"),
        (Margin(True, 1.0), 200, "urgent"),
    ]
    assert best_group(candidates, 1, breadth=1) == ["urgent"]
    assert best_group(candidates, 1, breadth=2) == ["urgent"]
