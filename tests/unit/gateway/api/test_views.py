"""What the API shows of a job."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import views
from gateway.ledger.job import Attempt, Incidents, Job, Outcome
from gateway.ledger.queries import HistoryEntry, JobRecord, Result
from gateway.ledger.request import Request
from gateway.ledger.rows import JOB_COLUMNS
from schemas import JobRequest, JobStatus, JobTimes, QosCatalog, QosTargets, TimeParts
from tests.support.ledger import after, origin, outcome, request

TARGETS = [
    {"ttft_ms": 300.0, "tbt_ms": 35.0},
    {"ttft_ms": 4.1, "tbt_ms": 0.3},
    {"ttft_ms": 1234.567, "tbt_ms": 57.1},
    {"ttlt_ms": 8000.0},
    {"ttlt_s": 600.0},
]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def requested(**fields: object) -> Request:
    job = JobRequest.model_validate({"model": "m", "prompt": "p"} | fields)
    return Request.of(job, QosCatalog.shipped().resolve(job.qos), origin())


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_are_shown_as_the_job_gave_them(targets: dict[str, float]) -> None:
    shown = views.summary(Job(uuid4(), requested(qos=QosTargets(**targets))), after(1)).qos

    assert shown is not None
    assert shown.model_dump(exclude_none=True, exclude={"kind"}) == targets


def test_a_class_is_shown_with_its_name_and_its_targets() -> None:
    shown = views.summary(Job(uuid4(), requested(qos="chat")), after(1))

    assert shown.qos is not None
    assert shown.qos.model_dump(mode="json") == {
        "name": "chat",
        "kind": "interactive",
        "ttft_ms": 1000.0,
        "tbt_ms": 100.0,
        "ttlt_ms": None,
        "ttlt_s": None,
        "task": None,
    }
    assert shown.deadlines == views.DeadlinesView(first_token_at=after(1))


def test_what_was_measured_is_in_the_units_of_the_targets() -> None:
    attempt = Attempt(1, admitted_at=after(0.25), first_token_at=after(0.9), largest_gap_ms=99.0)
    job = Job(uuid4(), requested(qos="chat"), JobStatus.COMPLETED, attempt, outcome(3))

    shown = views.summary(job, after(10))

    assert shown.measured.model_dump() == {
        "queue_s": 0.25,
        "ttft_ms": 900.0,
        "largest_gap_ms": 99.0,
        "ttlt_s": 3.0,
    }
    assert (shown.deadlines_met.ttft, shown.deadlines_met.tbt) == (True, True)


def test_a_job_that_was_just_accepted_is_queued_with_its_deadlines() -> None:
    job = Job(uuid4(), requested(qos={"ttlt_s": 60}, tenant="acme", metadata={"a": "b"}))

    accepted = views.accepted(job)
    shown = views.detailed(JobRecord(job), after(20))

    assert (accepted.status, accepted.links.self) == ("queued", f"/v1/jobs/{job.job_id}")
    assert accepted.deadlines.last_token_at == shown.deadlines.last_token_at == after(60)
    assert (shown.status, shown.tenant, shown.slack_s) == ("queued", "acme", 40.0)
    assert (shown.metadata, shown.attempt, shown.events) == ({"a": "b"}, 0, [])


def test_a_job_is_relegated_until_it_is_restored() -> None:
    def relegated(restored_s: float | None) -> bool:
        restored_at = None if restored_s is None else after(restored_s)
        incidents = Incidents(relegated_at=after(3), restored_at=restored_at, relegations=1)
        return views.summary(Job(uuid4(), request(), incidents=incidents), after(9)).relegated

    assert relegated(restored_s=None)
    assert not relegated(restored_s=4)
    assert relegated(restored_s=2)


def test_only_terminal_events_after_the_first_are_duplicates() -> None:
    counts = [
        views.summary(
            Job(uuid4(), request(), incidents=Incidents(terminal_events=events)), after(1)
        ).duplicate_endings
        for events in (0, 1, 3)
    ]

    assert counts == [0, 0, 2]


def test_a_result_is_shown_with_why_it_ended() -> None:
    job = Job(uuid4(), request(), JobStatus.COMPLETED, Attempt(1), outcome(3))
    result = Result("Hi", [1, 2], "stop", None)

    shown = views.detailed(JobRecord(job, result), after(9)).result

    assert shown == views.ResultView(text="Hi", token_ids=[1, 2], finish_reason="stop")


def test_a_job_whose_own_record_is_missing_is_shown_with_what_its_events_say() -> None:
    job = Job(uuid4(), None, JobStatus.RUNNING, Attempt(1, worker_id="w", started_at=after(1)))

    shown = views.summary(job, after(9))

    assert (shown.arrived_at, shown.qos, shown.metadata) == (None, None, {})
    assert (shown.status, shown.worker_id, shown.started_at) == ("running", "w", after(1))
    assert shown.slack_s is None


def test_every_field_of_a_summary_is_a_column_or_filled_in() -> None:
    """A field that is neither would always be null."""
    job = Job(uuid4(), requested(qos="chat"), JobStatus.QUEUED, Attempt(), outcome(3))

    filled = views.summary(job, after(1)).model_fields_set

    assert set(views.JobSummary.model_fields) <= filled | set(JOB_COLUMNS)


def test_a_job_says_where_its_time_went_and_why_it_was_late() -> None:
    attempt = Attempt(1, first_token_at=after(3))
    end = outcome(4)
    assert end is not None
    times = JobTimes(
        until_first_token=TimeParts(publish_s=0.5, parked_s=2.5), until_end=TimeParts(decode_s=1.25)
    )
    late = Job(
        uuid4(),
        requested(qos="chat"),
        JobStatus.COMPLETED,
        attempt,
        replace(end, times=times, trace_id=TRACE_ID),
    )

    shown = views.detailed(JobRecord(late), after(10))

    assert shown.trace_id == TRACE_ID
    assert shown.times is not None
    assert shown.times.model_dump(exclude_none=True) == {
        "total_s": 4.0,
        "until_first_token": {"publish_s": 0.5, "parked_s": 2.5},
        "until_end": {"decode_s": 1.25},
        "clock_skew_s": -0.25,
    }
    assert shown.why_late == "Its first token came 2.0 s late: its prompt was parked for 2.5 s."


any_time = st.datetimes(timezones=st.just(UTC))


@given(st.lists(any_time, min_size=7, max_size=7), st.sampled_from(JobStatus))
def test_a_job_can_be_shown_whatever_the_times_that_its_records_claim(
    times: list[datetime], status: JobStatus
) -> None:
    arrived_at, deadline_at, *of_attempt, finished_at, now = times
    asked = replace(requested(qos="chat"), arrived_at=arrived_at, deadline_at=deadline_at)
    end = None if status.is_open else Outcome(finished_at, uuid4(), *[None] * 4)
    job = Job(uuid4(), asked, status, Attempt(1, "w", *of_attempt), end)
    history = [HistoryEntry("relegated", finished_at, 1, "w", None, None)]
    shown = views.detailed(JobRecord(job, history=history), now)
    assert str(job.job_id) in shown.model_dump_json()
