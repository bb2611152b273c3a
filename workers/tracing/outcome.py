"""Which jobs' traces are kept for how they ended, whatever was sampled."""

from schemas import EventType, JobError
from workers.policy.qos import RequestQos
from workers.tracing.job_trace import Ending, JobTrace

SAMPLED = "sampled"
LATE = "late"
RELEGATED = "relegated"
RETRIED = "retried"

_OUR_FAULTS = ("engine_error", "internal_error", "too_many_attempts")
"""Codes of errors that a worker may have made. All others are about what it was given."""


def reasons_to_keep(trace: JobTrace) -> list[str]:
    """Why the trace of a job that has ended is kept; empty: it is not."""
    ending, reasons = trace.ending, []
    assert ending is not None
    if trace.is_sampled:
        reasons.append(SAMPLED)
    if trace.job is not None and is_late(trace, trace.job.qos, ending):
        reasons.append(LATE)
    if trace.was_relegated:
        reasons.append(RELEGATED)
    if trace.attempt > 1:
        reasons.append(RETRIED)
    if ending.kind in (EventType.FAILED, EventType.EXPIRED):
        reasons.append(str(ending.kind))
    return reasons


def is_late(trace: JobTrace, qos: RequestQos, ending: Ending) -> bool:
    """Whether a deadline, or the limit of the gaps between tokens, was missed.

    As the gateway judges it: a cancelled job neither meets nor misses anything.
    """
    if ending.kind is EventType.CANCELLED:
        return False
    completed_s = ending.at_s if ending.kind is EventType.COMPLETED else None
    judged = qos.judged(
        first_token_s=trace.first_token_s,
        completed_s=completed_s,
        largest_gap_ms=ending.largest_gap_ms,
    )
    return not all(judged.values())


def is_producers_fault(error: JobError) -> bool:
    """Whether the job failed for what it asks, or how."""
    return error.code not in _OUR_FAULTS
