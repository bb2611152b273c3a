"""Workers, which count what was met, judge a job as the gateway does, which shows it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import timing
from gateway.ledger.job import Attempt, Job, Outcome
from gateway.ledger.request import Origin, Request
from schemas import JobRequest, JobStatus, QosCatalog, QosTargets
from workers.job import qos_of
from workers.policy.qos import Target

ARRIVED = datetime(2026, 11, 22, 12, tzinfo=UTC)
ORIGIN = Origin(ARRIVED, "default", "t", 0, 0, b"")
_WAITS_S = st.integers(1, 80).map(lambda eighths: eighths / 8)
"""Exact in binary: whether a token is in time is not a matter of rounding."""
_GAPS_MS = st.integers(1, 1_000).map(lambda tenths: tenths / 10)
_TARGETS = st.one_of(
    st.builds(
        lambda ttft_s, tbt_ms: QosTargets(ttft_ms=ttft_s * 1000, tbt_ms=tbt_ms), _WAITS_S, _GAPS_MS
    ),
    st.builds(lambda ttlt_s: QosTargets(ttlt_s=ttlt_s), _WAITS_S),
)
_ENDINGS = st.sampled_from([JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED])


@given(_TARGETS, _ENDINGS, st.none() | _WAITS_S, _WAITS_S, st.none() | _GAPS_MS)
def test_workers_judge_as_the_gateway_does(
    targets: QosTargets,
    status: JobStatus,
    first_s: float | None,
    ended_s: float,
    gap_ms: float | None,
) -> None:
    request = JobRequest(model="m", prompt="p", qos=targets)
    resolved = QosCatalog.shipped().resolve(request.qos)
    ended_at = ARRIVED + timedelta(seconds=ended_s)
    first_at = None if first_s is None else ARRIVED + timedelta(seconds=first_s)
    job = Job(
        uuid4(),
        Request.of(request, resolved, ORIGIN),
        status,
        Attempt(attempt=1, first_token_at=first_at, largest_gap_ms=gap_ms),
        Outcome(ended_at, uuid4(), None, None, None, None),
    )
    shown = {
        Target.TTFT: timing.ttft_met(job, ended_at),
        Target.TBT: timing.tbt_met(job),
        Target.TTLT: timing.ttlt_met(job, ended_at),
    }
    counted = qos_of(request, resolved, ARRIVED.timestamp()).judged(
        first_token_s=None if first_at is None else first_at.timestamp(),
        completed_s=ended_at.timestamp() if status is JobStatus.COMPLETED else None,
        largest_gap_ms=gap_ms,
    )
    assert counted == {target: met for target, met in shown.items() if met is not None}
