"""What is measured of a job: its targets, slack, waits and times, once each."""

from typing import Any
from uuid import uuid4

import pytest

from niyama.telemetry.admission import OTHER
from niyama.telemetry.measurements import Measurements
from schemas import EventType, JobError, JobRequest, QosCatalog, Usage
from tests.support.metrics import numbers
from tests.support.records import TOPICS, FakeRecord, tracked
from workers.engine.port import GenerationUpdate
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job_metrics import JobMetrics, jobs_in_flight
from workers.execution.timeline import Timeline
from workers.job import Job, qos_of
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.job_attempt import JobAttempt

ARRIVED_S = 1000.0
TOPIC = TOPICS.interactive.name


class Harness:
    """A worker's metrics, and a clock that the test sets."""

    def __init__(self, **options: Any) -> None:
        self.now_s = ARRIVED_S
        self.measurements = Measurements(**options)
        self.metrics = JobMetrics(self.measurements, "m", "group", lambda: self.now_s)
        self.in_flight = InFlightJobs()

    def job(self, **fields: Any) -> InFlightJob:
        request = JobRequest(**{"model": "m", "prompt": "p", "qos": "chat"} | fields)
        qos = qos_of(request, QosCatalog.shipped().resolve(request.qos), ARRIVED_S)
        record = tracked(FakeRecord())
        attempt = JobAttempt.of(record.record, job_id := uuid4(), 1)
        job = self.in_flight.add(Job(job_id, request, qos), record, attempt)
        job.timeline = Timeline({}, self.now_s)
        self.metrics.taken(job)
        job.timeline.submitted(self.now_s)
        return job

    def first_token(self, job: InFlightJob, at_s: float) -> None:
        job.timeline.shown(GenerationUpdate("a", (1,), 1, 1, 0), at_s)
        self.metrics.first_token(job, at_s)

    def decide(self, job: InFlightJob, kind: DecisionKind, at_s: float, reason: str = "") -> None:
        self.metrics.decided(job, Decision(job.request_id, kind, at_s, reason))

    def end(self, job: InFlightJob, kind: EventType, at_s: float, **details: Any) -> None:
        self.now_s = at_s
        usage = Usage(prompt_tokens=1, completion_tokens=details.pop("tokens", 0))
        self.metrics.ended(job, kind, at_s, usage=usage, **details)
        self.metrics.acknowledged(job)

    def found(self, name: str) -> dict[tuple[str, ...], float]:
        return numbers(self.measurements, name)

    def sum_of(self, name: str) -> float:
        (metric,) = (each for each in self.measurements.collect() if each.name == name)
        total = sum(getattr(point, "sum") for point in metric.data.data_points)  # noqa: B009
        return float(total)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_chat_in_time_meets_both_targets_with_the_slack_of_its_first_token(
    harness: Harness,
) -> None:
    job = harness.job(tenant="t")
    harness.decide(job, DecisionKind.STARTED, ARRIVED_S + 0.25)
    harness.first_token(job, ARRIVED_S + 0.5)
    harness.end(job, EventType.COMPLETED, ARRIVED_S + 1.5, tokens=11, largest_gap_ms=100.0)
    assert harness.found("niyama.jobs.ended") == {("true", "interactive", "chat", "t"): 1}
    assert harness.found("niyama.job.missed_targets") == {}
    assert harness.found("niyama.job.slack") == {("first", "interactive", "chat"): 1}
    assert harness.sum_of("niyama.job.slack") == 0.5
    assert harness.sum_of("niyama.job.queue.duration") == 0.25
    assert harness.sum_of("gen_ai.server.time_to_first_token") == 0.5
    assert harness.sum_of("gen_ai.server.time_per_output_token") == 0.1
    assert harness.sum_of("gen_ai.server.request.duration") == 1.5
    assert harness.found("messaging.process.duration") == {("kafka", "process", TOPIC, "group"): 1}


def test_a_chat_that_is_late_and_has_a_gap_misses_both(harness: Harness) -> None:
    job = harness.job()
    harness.first_token(job, ARRIVED_S + 3)
    harness.end(job, EventType.COMPLETED, ARRIVED_S + 4, tokens=2, largest_gap_ms=100.1)
    assert harness.found("niyama.jobs.ended") == {("false", "interactive", "chat", "default"): 1}
    assert harness.found("niyama.job.missed_targets") == {
        ("ttft", "interactive", "chat"): 1,
        ("tbt", "interactive", "chat"): 1,
    }
    assert harness.found("niyama.job.slack") == {}
    assert harness.sum_of("niyama.job.lateness") == 2.0


@pytest.mark.parametrize(("after_s", "met"), [(600.0, "true"), (600.5, "false")])
def test_a_batch_job_is_judged_by_its_last_token(
    harness: Harness, after_s: float, met: str
) -> None:
    job = harness.job(qos={"ttlt_s": 600})
    harness.first_token(job, ARRIVED_S + 1)
    harness.end(job, EventType.COMPLETED, ARRIVED_S + after_s, tokens=2)
    assert harness.found("niyama.jobs.ended") == {(met, "batch", "default"): 1}
    found = "slack" if met == "true" else "lateness"
    assert harness.found(f"niyama.job.{found}") == {("last", "batch"): 1}


def test_a_job_that_fails_or_expires_misses_and_has_no_slack(harness: Harness) -> None:
    error = JobError(code="engine_error", message="gone")
    harness.end(harness.job(), EventType.FAILED, ARRIVED_S + 0.1, error=error)
    harness.end(harness.job(), EventType.EXPIRED, ARRIVED_S + 0.1)
    assert harness.found("niyama.jobs.ended") == {("false", "interactive", "chat", "default"): 2}
    assert harness.found("niyama.job.missed_targets") == {("ttft", "interactive", "chat"): 2}
    assert harness.found("niyama.job.slack") == harness.found("niyama.job.lateness") == {}
    assert {values[-1] for values in harness.found("messaging.process.duration")} == {
        "engine_error",
        "expired",
    }


def test_a_cancelled_job_neither_meets_nor_misses(harness: Harness) -> None:
    harness.end(harness.job(), EventType.CANCELLED, ARRIVED_S + 5)
    assert harness.found("niyama.jobs.ended") == {}


def test_a_chat_that_fails_after_a_first_token_in_time_has_missed_no_target_but_failed(
    harness: Harness,
) -> None:
    job = harness.job()
    harness.metrics.first_token(job, ARRIVED_S + 0.5)
    error = JobError(code="engine_error", message="gone")
    harness.end(job, EventType.FAILED, ARRIVED_S + 1, error=error, tokens=3)
    assert harness.found("niyama.jobs.ended") == {("false", "interactive", "chat", "default"): 1}
    assert harness.found("niyama.job.missed_targets") == {}


def test_a_job_that_no_attempt_is_made_at_has_missed_too(harness: Harness) -> None:
    harness.metrics.refused(harness.job(qos={"ttlt_s": 600}).spec)
    harness.metrics.refused(None)
    assert harness.found("niyama.jobs.ended") == {("false", "batch", "default"): 1, ("false",): 1}
    assert harness.found("niyama.job.missed_targets") == {("ttlt", "batch"): 1}


def test_relegations_have_their_reason_and_the_jobs_importance(harness: Harness) -> None:
    job = harness.job(importance="low", qos="q2")
    harness.decide(job, DecisionKind.RELEGATED, ARRIVED_S, "too late to be met")
    assert harness.found("niyama.scheduler.relegations") == {
        ("too late to be met", "low", "batch"): 1
    }


def test_jobs_are_counted_by_what_the_scheduler_last_decided(harness: Harness) -> None:
    jobs = [harness.job() for _ in range(4)]
    for job, kinds in zip(
        jobs,
        (
            [],
            [DecisionKind.RELEGATED],
            [DecisionKind.STARTED, DecisionKind.PARKED],
            [DecisionKind.STARTED, DecisionKind.PARKED, DecisionKind.RESUMED],
        ),
        strict=True,
    ):
        for kind in kinds:
            harness.decide(job, kind, ARRIVED_S)
    found = {state: count for count, (state, _) in jobs_in_flight(harness.in_flight)}
    assert found == {"waiting": 1, "relegated": 1, "parked": 1, "running": 1}


def test_a_thousand_tenants_share_what_a_few_series_hold() -> None:
    harness = Harness(outside_values=10)
    for number in range(1000):
        harness.end(harness.job(tenant=f"t{number}"), EventType.EXPIRED, ARRIVED_S)
    found = harness.found("niyama.jobs.ended")
    assert len(found) == 11
    assert found["false", "interactive", "chat", OTHER] == 990
