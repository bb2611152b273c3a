"""What a worker's metrics take of one job, by themselves: on a busy machine the whole is too noisy.

`python -m tests.benchmarks.job_metrics`
"""

import time
from uuid import uuid4

from niyama import KafkaSettings
from niyama.telemetry.measurements import Measurements
from schemas import EventType, Usage
from tests.benchmarks.figures import console
from tests.benchmarks.pipeline import MODEL, job
from tests.support.records import FakeRecord, tracked
from workers.engine.port import GenerationUpdate
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job_metrics import JobMetrics
from workers.execution.timeline import Timeline
from workers.intake.admission import Admission
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.job_attempt import JobAttempt

BLOCKS = 200
JOBS = 500
USAGE = Usage(prompt_tokens=30, completion_tokens=8)


def main() -> None:
    metrics = JobMetrics(Measurements(), MODEL, "group", time.monotonic)
    ended = _ended_job()
    started = Decision(ended.request_id, DecisionKind.STARTED, time.time())
    least_s = min(_block_s(metrics, ended, started) for _ in range(BLOCKS))
    console.print(f"a worker's metrics: {least_s / JOBS * 1e6:.1f} µs of CPU time for a job")


def _block_s(metrics: JobMetrics, ended: InFlightJob, started: Decision) -> float:
    started_s = time.process_time()
    for _ in range(JOBS):
        _measure(metrics, ended, started)
    return time.process_time() - started_s


def _measure(metrics: JobMetrics, ended: InFlightJob, started: Decision) -> None:
    """Everything that is measured of a job that the engine starts immediately."""
    at_s = started.at_s
    metrics.taken(ended)
    metrics.decided(ended, started)
    metrics.first_token(ended, at_s)
    metrics.ended(ended, EventType.COMPLETED, at_s, usage=USAGE, largest_gap_ms=1.0)
    metrics.acknowledged(ended)


def _ended_job() -> InFlightJob:
    now_s = time.time()
    record = FakeRecord(job("tenant").to_bytes(), timestamp=int(now_s * 1000))
    spec = Admission(MODEL, KafkaSettings().qos_catalog).admit(record, now_s)
    ended = InFlightJobs().add(spec, tracked(record), JobAttempt.of(record, uuid4(), 1))
    ended.timeline = Timeline({}, 10.0)
    ended.timeline.submitted(10.1)
    ended.timeline.shown(GenerationUpdate("a", (1,), 30, 1, 0), 10.2)
    return ended


if __name__ == "__main__":
    main()
