"""The merge of a job's records."""

from collections.abc import Iterable
from itertools import permutations
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.projection import JobPatch
from gateway.ledger.rows import job_row
from schemas import JobEvent
from tests.support import ledger
from tests.support.ledger import after, request

JOB_ID = UUID("01a1fd07-8d69-7538-b1cd-a6c7a0c91219")
TERMINAL = ("completed", "failed", "expired", "cancelled")


def event(
    kind: str, second: float = 0, attempt: int = 1, worker: str | None = None, **more: object
) -> JobEvent:
    return ledger.event(
        JOB_ID,
        kind,
        after(second),
        event_id=uuid5(JOB_ID, f"{kind} {second} {attempt} {worker}"),
        attempt=attempt,
        worker_id=worker or f"worker-{attempt}",
        **more,
    )


def patch_of(events: Iterable[JobEvent]) -> JobPatch:
    patch = JobPatch(JOB_ID)
    for each in events:
        patch.report(each)
    return patch


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ([], "queued"),
        (["admitted"], "admitted"),
        (["admitted", "started"], "running"),
        (["started", "admitted"], "running"),
        (["first_token"], "running"),
        (["relegated"], "admitted"),
        (["admitted", "started", "parked"], "running"),
        (["completed", "started"], "completed"),
        (["failed"], "failed"),
    ],
)
def test_the_status_is_the_furthest_that_the_events_prove(kinds: list[str], status: str) -> None:
    assert patch_of(event(kind) for kind in kinds).status == status


def test_a_newer_attempt_starts_over() -> None:
    patch = patch_of(
        [
            event("first_token", 3, usage={"prompt_tokens": 9, "completion_tokens": 50}),
            event("retried", 10, attempt=2),
            event("admitted", 10, attempt=2),
        ]
    )

    assert patch.status == "admitted"
    assert patch.attempt.first_token_at is None
    assert patch.attempt.completion_tokens is None
    assert patch.attempt.worker_id == "worker-2"


def test_events_of_an_older_attempt_change_nothing_of_the_newer_one() -> None:
    patch = patch_of([event("admitted", 10, attempt=2), event("started", 3, attempt=1)])

    assert patch.status == "admitted"
    assert patch.attempt.started_at is None


def test_the_first_terminal_event_wins_and_later_ones_are_counted() -> None:
    patch = patch_of(
        [
            event("completed", 5, result={"text": "x", "finish_reason": "stop"}),
            event("failed", 4, error={"code": "engine_error", "message": "late"}),
        ]
    )

    assert patch.status == "completed"
    assert patch.outcome is not None
    assert (patch.outcome.finish_reason, patch.outcome.error_code) == ("stop", None)
    assert patch.incidents.terminal_events == 2


def test_relegations_are_counted_and_the_last_one_is_kept() -> None:
    patch = patch_of(
        [event("relegated", 3), event("relegated", 1), event("restored", 2), event("parked", 4)]
    )

    assert (patch.incidents.relegations, patch.incidents.parks) == (2, 1)
    assert patch.incidents.relegated_at == after(3)
    assert patch.incidents.restored_at == after(2)


def test_the_first_request_and_the_first_request_to_cancel_count() -> None:
    first = request()
    patch = JobPatch(JOB_ID)
    patch.submit(first)
    patch.submit(request(source_topic="relegated", source_partition=5, source_offset=5))
    patch.cancel(after(2))
    patch.cancel(after(1))

    assert patch.request is first
    assert patch.incidents.cancel_requested_at == after(1)


some_events = st.lists(
    st.builds(
        event,
        kind=st.sampled_from(
            ["admitted", "started", "first_token", "relegated", "restored", "parked", "retried"]
        ),
        second=st.integers(0, 5),
        attempt=st.integers(1, 3),
        worker=st.sampled_from([None, "zombie"]),
        usage=st.none()
        | st.fixed_dictionaries(
            {"prompt_tokens": st.just(3), "completion_tokens": st.integers(0, 9)}
        ),
    ),
    max_size=8,
)


@given(events=some_events, data=st.data(), end=st.sampled_from((None, *TERMINAL)))
def test_the_order_of_events_does_not_matter(
    events: list[JobEvent], data: st.DataObject, end: str | None
) -> None:
    if end is not None:
        events = [*events, event(end, 9, attempt=2)]
    shuffled = data.draw(st.permutations(events))

    assert job_row(patch_of(shuffled)) == job_row(patch_of(events))


USAGE = {"prompt_tokens": 3, "completion_tokens": 7}


@pytest.mark.parametrize("late", [False, True])
def test_the_attempt_that_ends_a_job_is_shown_whatever_others_report(late: bool) -> None:
    figures = {"prompt_tokens": 9, "completion_tokens": 900}
    own = [event("admitted", 1), event("completed", 5, usage=USAGE, largest_gap_ms=4)]
    others = [
        event("admitted", 2, attempt=2),
        event("cancelled", 9, attempt=2, usage=figures, largest_gap_ms=80),
    ]
    ordered = [*own, *others] if late else [others[0], *own, others[1]]

    shown = patch_of(ordered).attempt

    assert (shown.attempt, shown.worker_id, shown.admitted_at) == (1, "worker-1", after(1))
    assert (shown.prompt_tokens, shown.completion_tokens, shown.largest_gap_ms) == (3, 7, 4)


def test_the_event_that_ends_a_job_has_the_last_word_on_its_counts() -> None:
    more = {"prompt_tokens": 4, "completion_tokens": 8}
    zombie = event("first_token", 2, worker="a-zombie", usage=more)

    for ordered in permutations([zombie, event("completed", 5, usage=USAGE), event("admitted", 1)]):
        shown = patch_of(ordered).attempt

        assert (shown.worker_id, shown.completion_tokens) == ("worker-1", 7)
        assert (shown.admitted_at, shown.first_token_at) == (after(1), after(2))
