"""How a job stands at a given time."""

from uuid import uuid4

import pytest

from gateway.ledger import timing
from gateway.ledger.job import Attempt, Job
from schemas import JobStatus, Kind
from tests.support.ledger import after, outcome, request

CHAT = request(kind=Kind.INTERACTIVE, ttft_s=1.0, tbt_s=0.1, deadline_at=after(1))
BATCH = request(kind=Kind.BATCH, ttlt_s=60.0, deadline_at=after(60))


def chat(
    status: JobStatus = JobStatus.RUNNING,
    *,
    first_token_s: float | None = None,
    largest_gap_ms: float | None = None,
    finished_s: float | None = None,
) -> Job:
    """A chat that asked for its first token within 1 s, and for gaps of at most 100 ms."""
    first_token_at = None if first_token_s is None else after(first_token_s)
    attempt = Attempt(1, first_token_at=first_token_at, largest_gap_ms=largest_gap_ms)
    return Job(uuid4(), CHAT, status, attempt, outcome(finished_s))


def batch(status: JobStatus = JobStatus.QUEUED, *, finished_s: float | None = None) -> Job:
    """A job that is due within a minute."""
    return Job(uuid4(), BATCH, status, Attempt(1), outcome(finished_s))


def test_slack_is_what_is_left_until_the_deadline() -> None:
    assert timing.slack_s(chat(), after(0.25)) == pytest.approx(0.75)
    assert timing.slack_s(batch(), after(70)) == pytest.approx(-10)


def test_there_is_no_slack_once_the_deadline_was_met_or_the_job_is_over() -> None:
    assert timing.slack_s(chat(first_token_s=0.5), after(2)) is None
    assert timing.slack_s(batch(JobStatus.FAILED, finished_s=3), after(4)) is None


def test_an_interactive_job_met_its_deadlines() -> None:
    job = chat(JobStatus.COMPLETED, first_token_s=0.9, largest_gap_ms=99.0, finished_s=3)

    assert timing.ttft_met(job, after(10)) is True
    assert timing.tbt_met(job) is True
    assert timing.ttlt_met(job, after(10)) is None


def test_a_gap_that_is_too_long_is_a_miss_immediately_and_a_short_one_says_nothing_yet() -> None:
    assert timing.tbt_met(chat(first_token_s=1.5, largest_gap_ms=101.0)) is False
    assert timing.tbt_met(chat(first_token_s=1.5, largest_gap_ms=20.0)) is None
    assert timing.ttft_met(chat(first_token_s=1.5), after(2)) is False


def test_a_single_token_has_no_gap_that_could_be_too_long() -> None:
    assert timing.tbt_met(chat(JobStatus.COMPLETED, first_token_s=0.5, finished_s=0.5)) is True


def test_a_chat_that_failed_with_short_gaps_neither_met_nor_missed_its_tbt() -> None:
    job = chat(JobStatus.FAILED, first_token_s=0.5, largest_gap_ms=20.0, finished_s=2)

    assert timing.tbt_met(job) is None


def test_a_deadline_that_passes_unmet_is_missed_before_the_job_ends() -> None:
    assert timing.ttlt_met(batch(), after(59)) is None
    assert timing.ttlt_met(batch(), after(61)) is False
    assert timing.ttlt_met(batch(JobStatus.FAILED, finished_s=5), after(6)) is False


def test_a_batch_job_met_its_deadline_when_it_completed_in_time() -> None:
    assert timing.ttlt_met(batch(JobStatus.COMPLETED, finished_s=60), after(100)) is True
    assert timing.ttlt_met(batch(JobStatus.COMPLETED, finished_s=61), after(100)) is False


def test_a_cancelled_job_neither_met_nor_missed_anything() -> None:
    assert timing.ttlt_met(batch(JobStatus.CANCELLED, finished_s=5), after(100)) is None
    late = chat(JobStatus.CANCELLED, first_token_s=3, largest_gap_ms=500, finished_s=5)
    assert (timing.ttft_met(late, after(100)), timing.tbt_met(late)) == (None, None)


def test_times_count_from_the_arrival() -> None:
    attempt = Attempt(1, admitted_at=after(0.25), first_token_at=after(0.9))
    job = Job(uuid4(), CHAT, JobStatus.COMPLETED, attempt, outcome(3))

    assert timing.queue_s(job) == pytest.approx(0.25)
    assert timing.ttft_ms(job) == 900.0
    assert timing.ttlt_s(job) == pytest.approx(3)


def test_nothing_is_known_of_a_job_whose_own_record_is_missing() -> None:
    attempt = Attempt(1, admitted_at=after(1), first_token_at=after(2), largest_gap_ms=20.0)
    job = Job(uuid4(), None, JobStatus.COMPLETED, attempt, outcome(3))

    assert timing.slack_s(job, after(2)) is None
    assert (timing.ttft_met(job, after(2)), timing.tbt_met(job)) == (None, None)
    assert timing.ttlt_met(job, after(2)) is None
    assert (timing.queue_s(job), timing.ttft_ms(job), timing.ttlt_s(job)) == (None, None, None)


def test_an_invalid_job_has_no_deadline() -> None:
    job = Job(uuid4(), request(kind=None), JobStatus.FAILED, Attempt(1), outcome(3))

    assert timing.slack_s(job, after(2)) is None
    assert timing.ttlt_met(job, after(2)) is None
    assert timing.ttlt_s(job) == pytest.approx(3)
