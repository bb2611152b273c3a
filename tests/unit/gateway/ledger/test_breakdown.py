"""Where a job's time went, and what cost it its deadline."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.time_views import PartsView
from gateway.ledger import lateness
from gateway.ledger.breakdown import Breakdown, Part, breakdown
from gateway.ledger.job import Attempt, Job
from gateway.ledger.lateness import CONSEQUENCE, why_late
from gateway.ledger.queries import HistoryEntry
from niyama import job_report
from schemas import GapCause, JobStatus, JobTimes, Kind, TimeParts
from tests.support.ledger import after, outcome, request
from workers.policy.decision import TOO_LATE

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
    assert (found.total_s, found.clock_skew_s) == (1.75, -0.25)


def test_an_open_job_is_broken_down_by_its_events() -> None:
    attempt = Attempt(1, "w", after(2), after(5), after(9))
    running = Job(uuid4(), BATCH, JobStatus.RUNNING, attempt)

    found = spent(running, now=after(12))

    assert found.until_first_token == {Part.INTAKE: 2.0, Part.WAITING: 3.0, Part.PREFILL: 4.0}
    assert found.until_end == {Part.ANSWER: 3.0}
    assert found.clock_skew_s == 0


def test_before_it_is_admitted_nobody_knows_whether_a_worker_has_a_job() -> None:
    assert spent(Job(uuid4(), CHAT), now=after(7)).until_end == {Part.INTAKE: 7.0}


def test_an_open_job_was_with_an_earlier_attempt_until_the_last_one_admitted_it() -> None:
    job = Job(uuid4(), CHAT, JobStatus.QUEUED, Attempt(2, "w"))

    found = spent(job, [entry("admitted", 3.0), entry("retried", 6.0, attempt=2)], after(10))

    assert found.until_end == {Part.INTAKE: 3.0, Part.EARLIER_ATTEMPTS: 7.0}


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
    assert found.clock_skew_s == pytest.approx(0, abs=1e-6)


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


def test_work_that_takes_longer_than_the_deadline_allowed_is_said_so() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.2, computing_s=1.5), until_end=TimeParts()
    )
    assert said(ended(times, 1.7, first_token_s=1.7)) == (
        "Its first token came 700 ms late: computing its prompt took 1.5 s, longer than the "
        "deadline allowed."
    )


def test_a_wait_that_was_longer_than_such_work_is_said_too() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=12.5, computing_s=6.5), until_end=TimeParts()
    )
    assert said(ended(times, 19.0, first_token_s=19.0)) == (
        "Its first token came 18.0 s late: computing its prompt took 6.5 s, longer than the "
        "deadline allowed, and its prompt waited 12.5 s in the engine while other work went first."
    )


WAITED = JobTimes(
    until_first_token=TimeParts(waiting_s=2.5, computing_s=0.4), until_end=TimeParts()
)
WAITED_SAID = (
    "Its first token came 1.9 s late: its prompt waited 2.5 s in the engine while other work went "
    "first."
)
MISSED = "not all can be met"


@pytest.mark.parametrize(
    "history",
    [
        [entry("relegated", 0.3, reason=CONSEQUENCE)],
        [entry("relegated", 1.5, reason=MISSED)],
        [entry("relegated", 0.1, reason=MISSED), entry("restored", 0.2)],
        [entry("relegated", 0.1, attempt=1, reason=MISSED), entry("retried", 0.2, attempt=2)],
    ],
    ids=["late anyway", "after the deadline", "soon taken back", "of an earlier attempt"],
)
def test_a_decision_that_did_not_make_a_job_late_is_not_blamed(
    history: Sequence[HistoryEntry],
) -> None:
    job = ended(WAITED, 2.9, first_token_s=2.9, attempt=history[-1].attempt)
    assert why_late(job, spent(job), history, NOW) == WAITED_SAID


def test_the_gateway_knows_why_the_scheduler_relegates_what_is_late() -> None:
    assert CONSEQUENCE == TOO_LATE


def test_of_several_decisions_the_one_that_held_the_longest_is_said() -> None:
    times = JobTimes(until_first_token=TimeParts(parked_s=2.5), until_end=TimeParts())
    made = [("parked", 0.1, "others can still be met"), ("parked", 0.4, "a closer deadline")]
    history = [entry(kind, at, reason=reason) for kind, at, reason in made]
    assert said(ended(times, 2.9, first_token_s=2.9), *history) == (
        "Its first token came 1.9 s late: its prompt was parked for 2.5 s (parked: a closer "
        "deadline)."
    )


def test_a_long_history_is_looked_at_once() -> None:
    looks = 0

    class Looked(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return str(self) == other

    history = [entry(Looked("parked"), 0.1 + number / 10_000) for number in range(1_000)]

    sentence = said(ended(JobTimes(until_end=TimeParts(parked_s=30.0)), 30.0), *history)

    assert sentence is not None
    assert "its prompt was parked for 30.0 s (parked)" in sentence
    assert looks < 5 * len(history)


@pytest.mark.parametrize(
    ("times", "finished_s", "late"),
    [
        (TimeParts(waiting_s=6.0, computing_s=0.5), 6.5, "11.5 s"),
        (TimeParts(), 0.0, "5.0 s"),
    ],
)
def test_a_call_that_arrives_after_its_tasks_deadline_is_late_by_that(
    times: TimeParts, finished_s: float, late: str
) -> None:
    task = request(kind=Kind.TASK, ttlt_s=60.0, deadline_at=after(-5))

    sentence = said(ended(JobTimes(until_end=times), finished_s, asked=task))

    assert sentence == (
        f"Its last token came {late} late: its task's deadline had passed 5.0 s before it arrived."
    )


def test_other_jobs_prompts_are_told_from_the_work_of_a_decode() -> None:
    asked = request(kind=Kind.DEADLINE, ttlt_s=15.0, deadline_at=after(15))
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.2, computing_s=0.1),
        until_end=TimeParts(decode_s=1.0, beside_s=19.9),
    )
    assert said(ended(times, 21.2, first_token_s=0.3, asked=asked)) == (
        "Its last token came 6.2 s late: it shared the device with other jobs' prompts, which "
        "cost 19.9 s."
    )


def test_clocks_that_disagree_by_more_than_a_job_was_late_are_named() -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.1, computing_s=0.2), until_end=TimeParts()
    )
    assert said(ended(times, 5.3, first_token_s=5.3)) == (
        "Its first token came 4.3 s late: the clocks that timed it disagree by 5.0 s."
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
        "Its first token is 3.0 s overdue: it spent 4.0 s in Kafka, because no worker was there or "
        "none had room, or being prepared by a worker."
    )


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (None, ""),
        (GapCause.RETRACTED, " Its KV cache was taken back in between."),
        (GapCause.SHARED, " It shared a long iteration with other jobs' prompts."),
    ],
)
def test_a_gap_that_was_too_long(cause: GapCause | None, sentence: str) -> None:
    times = JobTimes(
        until_first_token=TimeParts(waiting_s=0.5),
        until_end=TimeParts(decode_s=1.0, retracted_s=0.02),
        gap_cause=cause,
    )
    assert said(ended(times, 3.5, first_token_s=0.5, gap_ms=500)) == (
        f"Two tokens came 500 ms apart; 100 ms was the limit.{sentence}"
    )


def test_every_part_and_every_cause_can_be_said_and_shown() -> None:
    assert [f"{part}" for part in Part] == list(job_report.NAMES)
    assert set(PartsView.model_fields) == set(job_report.NAMES)
    assert set(lateness.SAID) == set(Part)
    assert set(lateness.BETWEEN) == set(GapCause)
