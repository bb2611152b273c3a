"""What share of a task's time a call has."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.policy.qos import RequestQos, Task
from workers.policy.request import Request
from workers.policy.tasks import MOST_APPLICATIONS, MOST_CALLS, MOST_TASKS, Tasks, share_of

seconds = st.floats(0.01, 100.0)


def _call(
    call: int | None = None,
    left: int | None = None,
    *,
    arrival_s: float = 0.0,
    deadline_s: float = 100.0,
    task_id: str = "trip",
    application: str = "agent",
) -> Request:
    task = Task(task_id, call, left)
    qos = RequestQos.call(arrival_s, task=task, deadline_s=deadline_s, application=application)
    return Request(f"{task_id}.{call}", qos, 100)


def _due_s(tasks: Tasks, request: Request, call_s: float = 1.0) -> float:
    shared = tasks.arrived(request, request.qos.arrival_s, call_s)
    assert shared.share is not None
    assert shared.share.due_s <= shared.share.latest_s <= request.qos.deadline_s
    return shared.share.due_s


def _teach(tasks: Tasks, calls: int, *, client_s: float = 0.0, count: int = 300) -> None:
    """The agent's tasks have so many calls of 1 s each."""
    for index in range(count):
        now_s = 0.0
        for call in range(1, calls + 1):
            request = _call(call, task_id=f"earlier {index}", arrival_s=now_s)
            tasks.answered(tasks.arrived(request, now_s, 1.0), now_s + 1.0)
            now_s += 1.0 + client_s


def test_the_last_call_has_all_the_time_that_is_left() -> None:
    assert _due_s(Tasks(), _call(left=0)) == 100.0


def test_the_first_of_four_equal_calls_has_its_time_and_half_of_the_slack() -> None:
    assert _due_s(Tasks(), _call(left=3)) == pytest.approx(1.0 + 96.0 / 2)


def test_a_task_without_enough_time_is_shared_in_proportion() -> None:
    assert _due_s(Tasks(), _call(left=3, deadline_s=2.0)) == pytest.approx(0.5)


def test_time_for_the_calls_that_are_known_to_follow_is_kept_in_any_case() -> None:
    shared = Tasks().arrived(_call(left=3), 0.0, 2.0)
    assert shared.share is not None
    assert shared.share.latest_s == 100.0 - 3 * 2.0
    unknown = Tasks().arrived(_call(), 0.0, 2.0)
    assert unknown.share is not None
    assert unknown.share.latest_s == 100.0


def test_how_many_calls_follow_is_learned_from_the_application() -> None:
    tasks = Tasks()
    _teach(tasks, 4)
    assert _due_s(tasks, _call(1)) == pytest.approx(_due_s(tasks, _call(1, 3)), rel=0.02)
    assert _due_s(tasks, _call(4)) == pytest.approx(100.0, rel=0.02)
    assert _due_s(tasks, _call(1, application="other")) > _due_s(tasks, _call(1))


def test_a_replica_that_sees_every_other_call_learns_the_same() -> None:
    """Of the calls of four it sees two: the first and third, or the second and fourth."""
    tasks = Tasks()
    for index in range(600):
        for call in (1, 3) if index % 2 else (2, 4):
            tasks.arrived(_call(call, task_id=f"{index}"), 0.0, 1.0)
    assert _due_s(tasks, _call(1)) == pytest.approx(_due_s(tasks, _call(1, 3)), rel=0.02)


def test_calls_without_a_number_are_counted() -> None:
    tasks = Tasks()
    _teach(tasks, 3)
    for left in (2, 1, 0):
        told = _due_s(tasks, _call(left=left, task_id="told"))
        assert _due_s(tasks, _call(task_id="counted")) == pytest.approx(told, rel=0.02)


def test_the_time_that_the_client_takes_between_calls_is_learned() -> None:
    tasks = Tasks()
    _teach(tasks, 2, client_s=10.0)
    assert _due_s(tasks, _call(left=3)) == pytest.approx(1.0 + (100 - 4 - 30) / 2)


def test_a_call_that_is_sent_again_is_no_further_call() -> None:
    tasks = Tasks()
    _teach(tasks, 2, count=2)
    before = _due_s(tasks, _call(2, task_id="a"))
    for _ in range(20):
        tasks.arrived(_call(2, task_id="a"), 0.0, 1.0)
    assert _due_s(tasks, _call(2, task_id="a")) == pytest.approx(before, rel=0.02)


def test_what_is_kept_is_bounded() -> None:
    tasks = Tasks()
    for index in range(MOST_TASKS + 10):
        tasks.arrived(_call(task_id=f"{index}", application=f"{index}"), 0.0, 1.0)
    tasks.arrived(_call(MOST_CALLS + 5), 0.0, 1.0)
    assert len(tasks._seen) == MOST_TASKS
    assert len(tasks._histories) == MOST_APPLICATIONS


@example(now_s=0.0, left_s=1.6216327101767033e-109, call_s=60.9658884940, later_s=0.0, client_s=0.0)
@given(
    now_s=st.floats(0, 1e6),
    left_s=st.floats(-100, 10_000),
    call_s=st.floats(0, 100),
    later_s=st.floats(0, 1_000),
    client_s=st.floats(0, 1_000),
)
def test_a_due_time_is_never_beyond_the_deadline_of_the_task(
    now_s: float, left_s: float, call_s: float, later_s: float, client_s: float
) -> None:
    due_s = share_of(now_s, now_s + left_s, call_s, later_s, client_s)
    assert due_s <= now_s + left_s
    assert due_s >= min(now_s, now_s + left_s) - 1e-6


@given(works=st.lists(seconds, min_size=1, max_size=8), client_s=st.floats(0, 10), slack_s=seconds)
def test_the_shares_of_a_task_add_up_to_its_time(
    works: list[float], client_s: float, slack_s: float
) -> None:
    """Each call is answered when it is due, and the next one sent as late as was expected."""
    deadline_s = sum(works) + client_s * (len(works) - 1) + slack_s
    now_s = due_s = 0.0
    for index, call_s in enumerate(works):
        rest = works[index + 1 :]
        due_s = share_of(now_s, deadline_s, call_s, sum(rest), client_s * len(rest))
        assert due_s >= now_s + call_s - 1e-6
        now_s = due_s + client_s
    assert due_s == pytest.approx(deadline_s)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.none() | st.integers(1, 100),
            st.none() | st.integers(0, 100),
            st.floats(-10, 1_000),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_whatever_calls_arrive_their_shares_are_finite_and_in_order(
    calls: list[tuple[str, int | None, int | None, float, bool]],
) -> None:
    tasks, now_s = Tasks(), 0.0
    for task_id, call, left, until_s, answered in calls:
        request = _call(call, left, arrival_s=now_s, deadline_s=now_s + until_s, task_id=task_id)
        assert -inf < _due_s(tasks, request) < inf
        if answered:
            tasks.answered(request, now_s + 1.0)
        now_s += 0.5
