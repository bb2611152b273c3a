"""In a sentence, which decision or wait cost a job its deadline."""

from collections.abc import Sequence
from datetime import datetime

from gateway.ledger import timing
from gateway.ledger.breakdown import Breakdown, Part, Parts
from gateway.ledger.job import Job
from gateway.ledger.queries import HistoryEntry
from schemas import EventType, JobStatus

_SAID = {
    Part.PUBLISH: "it took {} until a worker had read its record",
    Part.QUEUE: "it waited {} in Kafka for a worker that had room",
    Part.EARLIER_ATTEMPTS: "{} went to an attempt that did not finish",
    Part.PREPARING: "it was {} in the worker before the engine had it",
    Part.WAITING: "its prompt waited {} in the engine while other work went first",
    Part.PARKED: "its prompt was parked for {}",
    Part.COMPUTING: "computing its prompt took {}",
    Part.PREFILL: "its prefill took {}",
    Part.DECODE: "generating its answer took {}",
    Part.RETRACTED: "its KV cache was taken back, which cost {}",
    Part.PACED: "its tokens were held back for {}",
    Part.DELIVERY: "its tokens took {} from the engine to the worker's report",
}
_WORK = (Part.COMPUTING, Part.PREFILL, Part.DECODE)
"""What a job takes even if nothing else runs. The other parts are waits."""
_DECISIONS = {
    Part.WAITING: EventType.RELEGATED,
    Part.PREFILL: EventType.PARKED,
    Part.PARKED: EventType.PARKED,
}
"""What the scheduler may have decided that made a job wait."""


def why_late(
    job: Job, spent: Breakdown, history: Sequence[HistoryEntry], now: datetime
) -> str | None:
    """The sentence; None when no deadline was missed.

    The longest wait, if the job had been in time without it; else the work, if that alone takes
    longer than there was time, with the longest wait if that was longer still; else the two
    longest parts.
    """
    if job.status is JobStatus.FAILED:
        return _why_failed(job, now)
    request = job.request
    if request is not None and request.deadline_at is not None:
        target_s = (request.deadline_at - request.arrived_at).total_seconds()
        if timing.ttft_met(job, now) is False:
            late_s = (job.attempt.first_token_at or _end(job, now)) - request.deadline_at
            what = _what(job, "first", late_s.total_seconds())
            return _sentence(what, spent.to_first_token, late_s.total_seconds(), target_s, history)
        if timing.ttlt_met(job, now) is False:
            late_s = _end(job, now) - request.deadline_at
            what = _what(job, "last", late_s.total_seconds())
            return _sentence(what, spent.parts, late_s.total_seconds(), target_s, history)
    return _why_gap(job, spent) if timing.tbt_met(job) is False else None


def duration(seconds: float) -> str:
    """In the units in which people say it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _end(job: Job, now: datetime) -> datetime:
    return now if job.outcome is None else job.outcome.finished_at


def _what(job: Job, token: str, late_s: float) -> str:
    if job.status is JobStatus.EXPIRED:
        return "It expired"
    if job.outcome is None and (token == "last" or job.attempt.first_token_at is None):
        return f"Its {token} token is {duration(late_s)} overdue"
    return f"Its {token} token came {duration(late_s)} late"


def _sentence(
    what: str, parts: Parts, late_s: float, target_s: float, history: Sequence[HistoryEntry]
) -> str:
    longest_first = sorted(parts, key=lambda part: -parts[part])
    waits = [part for part in longest_first if part not in _WORK]
    work = [part for part in longest_first if part in _WORK]
    if waits and parts[waits[0]] >= late_s:
        causes = waits[:1]
    elif sum(parts[part] for part in work) >= target_s:
        said = f"{what}: {_all_said(work, parts, history)}, more than there was time for"
        longer = [part for part in waits[:1] if part == longest_first[0]]
        return f"{said}, and {_all_said(longer, parts, history)}." if longer else f"{said}."
    else:
        causes = longest_first[:2]
    return f"{what}: {_all_said(causes, parts, history)}." if causes else f"{what}."


def _all_said(causes: Sequence[Part], parts: Parts, history: Sequence[HistoryEntry]) -> str:
    return " and ".join(
        _SAID[part].format(duration(parts[part])) + _decision(part, history) for part in causes
    )


def _decision(part: Part, history: Sequence[HistoryEntry]) -> str:
    """The last decision that this wait follows from, with its reason."""
    kind = _DECISIONS.get(part)
    reasons = [entry.reason for entry in history if entry.type == kind]
    if not reasons:
        return ""
    return f" ({kind}: {reasons[-1]})" if reasons[-1] else f" ({kind})"


def _why_failed(job: Job, now: datetime) -> str | None:
    if timing.ttft_met(job, now) is not False and timing.ttlt_met(job, now) is not False:
        return None
    message = job.outcome.error_message if job.outcome else None
    return f"It failed: {message}" if message else "It failed."


def _why_gap(job: Job, spent: Breakdown) -> str:
    assert job.request is not None
    assert job.request.tbt_ms is not None
    gap_ms = job.attempt.largest_gap_ms or 0.0
    said = f"There were {gap_ms:.0f} ms between two tokens, and {job.request.tbt_ms:g} ms allowed"
    taken_back_s = spent.parts.get(Part.RETRACTED, 0.0)
    if taken_back_s:
        return f"{said}: {_SAID[Part.RETRACTED].format(duration(taken_back_s))}."
    return f"{said}."
