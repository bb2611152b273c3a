"""Where a job's time went, and what cost it its deadline."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.breakdown import Breakdown, Part, breakdown
from gateway.ledger.job import Attempt, Job
from gateway.ledger.lateness import duration, why_late
from gateway.ledger.queries import HistoryEntry
from schemas import JobStatus, JobTimes, Kind, TimeParts
from tests.support.ledger import after, outcome, request

CHAT = request(kind=Kind.INTERACTIVE, ttft_s=1.0, tbt_s=0.1, deadline_at=after(1))
BATCH = request(kind=Kind.BATCH, ttlt_s=60.0, deadline_at=after(60))
NOW = after(1000)


def ended(
    times: JobTimes | None,
    finished_s: float,
    *,
    first_token_s: float | None = None,
    status: JobStatus = JobStatus.COMPLETED,
    attempt: int = 1,
    asked: object = CHAT,
    gap_ms: float | None = None,
) -> Job:
    end = outcome(finished_s)
    assert end is not None
    first_at = None if first_token_s is None else after(first_token_s)
    made = Attempt(attempt, "w", first_token_at=first_at, largest_gap_ms=gap_ms)
    return Job(uuid4(), asked, status, made, replace(end, times=times))  # type: ignore[arg-type]


def entry(kind: str, second: float, attempt: int = 1, reason: str | None = None) -> HistoryEntry:
    return HistoryEntry(kind, after(second), attempt, "w", reason, None)


def spent(job: Job, history: Sequence[HistoryEntry] = (), now: datetime = NOW) -> Breakdown:
    found = breakdown(job, history, now)
    assert found is not None
    return found


def said(job: Job, *history: HistoryEntry, now: datetime = NOW) -> str | None:
    return why_late(job, spent(job, history, now), history, now)


def test_what_the_worker_reported_is_shown_and_the_rest_is_the_clocks() -> None:
    times = JobTimes(
        until_first_token=TimeParts(publish_s=0.25, waiting_s=0.5),
        until_end=TimeParts(decode_s=1.0, delivery_s=0.25),
    )
    found = spent(ended(times, 1.75, first_token_s=0.75))

    assert found.until_first_token == {Part.PUBLISH: 0.25, Part.WAITING: 0.5}
    assert found.until_end == {Part.DECODE: 1.0, Part.DELIVERY: 0.25}
    assert (found.total_s, found.clocks_s) == (1.75, -0.25)


def test_an_open_job_is_broken_down_by_its_events() -> None:
    attempt = Attempt(1, "w", after(2), after(5), after(9))
    running = Job(uuid4(), BATCH, JobStatus.RUNNING, attempt)

    found = spent(running, now=after(12))

    assert found.until_first_token == {Part.QUEUE: 2.0, Part.WAITING: 3.0, Part.PREFILL: 4.0}
    assert found.until_end == {Part.DECODE: 3.0}
    assert found.clocks_s == 0


def test_a_queued_job_waits_in_kafka() -> None:
    assert spent(Job(uuid4(), CHAT), now=after(7)).until_end == {Part.QUEUE: 7.0}


def test_what_an_earlier_attempt_took_is_no_wait_in_kafka() -> None:
    times = JobTimes(until_end=TimeParts(queue_s=10.0, waiting_s=2.0))
    job = ended(times, 12.0, status=JobStatus.FAILED, attempt=2)
    history = [entry("admitted", 3.0), entry("retried", 10.0, attempt=2)]

    assert spent(job, history).until_end == {
        Part.QUEUE: 3.0,
        Part.EARLIER_ATTEMPTS: 7.0,
        Part.WAITING: 2.0,
    }


seconds = st.none() | st.floats(-5, 50)


@given(times=st.tuples(seconds, seconds, seconds), end=st.none() | st.floats(0, 50))
def test_the_times_of_events_are_the_whole_whatever_their_order(
    times: tuple[float | None, ...], end: float | None
) -> None:
    attempt = Attempt(1, "w", *(None if each is None else after(each) for each in times))
    status = JobStatus.RUNNING if end is None else JobStatus.COMPLETED

    found = spent(Job(uuid4(), CHAT, status, attempt, outcome(end)), now=after(60))

    assert all(each >= 0 for each in found.parts.values())
    assert found.clocks_s == pytest.approx(0, abs=1e-6)


def test_a_job_in_time_is_not_explained() -> None:
    times = JobTimes(until_first_token=TimeParts(waiting_s=0.5), until_end=TimeParts(decode_s=1))
    assert said(ended(times, 1.5, first_token_s=0.5)) is None


def test_the_longest_wait_and_the_decision_behind_it_cost_a_deadline() -> None:
    times = JobTimes(
        until_first_token=TimeParts(publish_s=0.01, waiting_s=2.1, computing_s=0.9),
        until_end=TimeParts(decode_s=5.0),
    )
    job = ended(times, 8.01, first_token_s=3.01)

    assert said(job, entry("relegated", 0.5, reason="not all can be met")) == (
        "Its first token came 2.0 s late: its prompt waited 2.1 s in the engine while other work "
        "went first (relegated: not all can be met)."
    )


def test_work_that_takes_longer_than_there_was_time_is_said_so() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.2, computing_s=1.5), until_end=TimeParts()
    )
    assert said(ended(times, 1.7, first_token_s=1.7)) == (
        "Its first token came 700 ms late: computing its prompt took 1.5 s, more than there was "
        "time for."
    )


def test_a_wait_that_was_longer_than_such_work_is_said_too() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=12.5, computing_s=6.5), until_end=TimeParts()
    )
    job = ended(times, 19.0, first_token_s=19.0)
    assert said(job, entry("relegated", 0.3, reason="too late to be met")) == (
        "Its first token came 18.0 s late: computing its prompt took 6.5 s, more than there was "
        "time for, and its prompt waited 12.5 s in the engine while other work went first "
        "(relegated: too late to be met)."
    )


def test_where_no_wait_alone_was_too_long_the_two_longest_parts_are_said() -> None:
    times = JobTimes(
        until_first_token=TimeParts(queue_s=20.0, waiting_s=25.0, computing_s=5.0),
        until_end=TimeParts(decode_s=50.0),
    )
    assert said(ended(times, 100.0, first_token_s=50.0, asked=BATCH)) == (
        "Its last token came 40.0 s late: generating its answer took 50.0 s and its prompt waited "
        "25.0 s in the engine while other work went first."
    )


def test_what_comes_after_the_first_token_is_no_reason_why_that_was_late() -> None:
    times = JobTimes(until_first_token=TimeParts(paced_s=1.2), until_end=TimeParts(delivery_s=9.0))
    assert said(ended(times, 10.2, first_token_s=1.2)) == (
        "Its first token came 200 ms late: its tokens were held back for 1.2 s."
    )


def test_a_job_that_expired_and_one_that_failed() -> None:
    times = JobTimes(until_end=TimeParts(publish_s=0.1, waiting_s=29.9))
    expired = ended(times, 30.0, status=JobStatus.EXPIRED, asked=BATCH)
    assert said(expired) == (
        "It expired: its prompt waited 29.9 s in the engine while other work went first."
    )
    failed = ended(times, 30.0, status=JobStatus.FAILED)
    assert failed.outcome is not None
    broken = replace(failed, outcome=replace(failed.outcome, error_message="no such grammar"))
    assert said(broken) == "It failed: no such grammar"


def test_a_cancelled_job_missed_nothing() -> None:
    times = JobTimes(until_end=TimeParts(waiting_s=30.0))
    assert said(ended(times, 30.0, status=JobStatus.CANCELLED)) is None


def test_an_open_job_is_overdue() -> None:
    assert said(Job(uuid4(), CHAT), now=after(4)) == (
        "Its first token is 3.0 s overdue: it waited 4.0 s in Kafka for a worker that had room."
    )


def test_a_gap_that_was_too_long() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.5),
        until_end=TimeParts(decode_s=1.0, retracted_s=2.0),
    )
    assert said(ended(times, 3.5, first_token_s=0.5, gap_ms=2050)) == (
        "There were 2050 ms between two tokens, and 100 ms allowed: its KV cache was taken back, "
        "which cost 2.0 s."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0421, "42 ms"), (1.25, "1.2 s"), (200.4, "3 min 20 s"), (7300, "2 h 1 min")],
)
def test_durations_are_said_in_the_units_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text
