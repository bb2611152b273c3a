"""In a sentence, which decision or wait cost a job its deadline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.ledger import timing
from gateway.ledger.breakdown import Breakdown, Part, Parts
from gateway.ledger.job import Job
from gateway.ledger.queries import HistoryEntry
from niyama.durations import duration
from schemas import EventType, GapCause, JobStatus

SAID = {
    Part.PUBLISH: "it took {} until a worker had read its record",
    Part.QUEUE: "it waited {} in Kafka: no worker was there, or none had room",
    Part.EARLIER_ATTEMPTS: "{} went to an attempt that did not finish",
    Part.PREPARING: "it spent {} in the worker before reaching the engine",
    Part.INTAKE: (
        "it spent {} in Kafka, because no worker was there or none had room, or being prepared "
        "by a worker"
    ),
    Part.WAITING: "its prompt waited {} in the engine while other work went first",
    Part.PARKED: "its prompt was parked for {}",
    Part.COMPUTING: "computing its prompt took {}",
    Part.PREFILL: "its prefill took {}",
    Part.DECODE: "generating its answer took {}",
    Part.BESIDE: "it shared the device with other jobs' prompts, which cost {}",
    Part.RETRACTED: "its KV cache was taken back, which cost {}",
    Part.PACED: "its tokens were held back for {}",
    Part.ANSWER: "its answer took {} after its first token",
    Part.DELIVERY: "its tokens took {} from the engine to the worker's report",
}
_WORK = (Part.COMPUTING, Part.DECODE)
"""What a job takes when no other job has a prompt; other answers may be generated beside its own.
The other parts are waits."""
_DECISIONS = {
    Part.WAITING: EventType.RELEGATED,
    Part.PREFILL: EventType.PARKED,
    Part.PARKED: EventType.PARKED,
}
"""What the scheduler may have decided that made a job wait."""
_ENDS = {EventType.RELEGATED: EventType.RESTORED, EventType.PARKED: EventType.PARKED}
"""The event that ends such a decision at the latest: the next one, of those that are not reported
to end."""
CONSEQUENCE = "too late to be met"
"""The scheduler's reason to relegate what has missed its deadline already, or is certain to."""
BETWEEN = {
    GapCause.RETRACTED: "Its KV cache was taken back in between.",
    GapCause.TURN: "Iterations of other jobs' prompts ran in between.",
    GapCause.SHARED: "It shared a long iteration with other jobs' prompts.",
    GapCause.DECODES: "An iteration of answers alone took that long.",
    GapCause.DELIVERY: "The engine made them closer together: they were held up on their way.",
}


@dataclass(frozen=True, slots=True)
class _Miss:
    """A token that came after the deadline, or has not come yet."""

    token: str
    at: datetime
    """When it came; now, if it has not."""
    parts: Parts
    """Where the time went until then."""
    arrived_at: datetime
    deadline_at: datetime

    @property
    def late_s(self) -> float:
        return (self.at - self.deadline_at).total_seconds()

    @property
    def allowed_s(self) -> float:
        return (self.deadline_at - self.arrived_at).total_seconds()

    @property
    def clock_skew_s(self) -> float:
        """What the clocks of producer and worker add to the parts."""
        return (self.at - self.arrived_at).total_seconds() - sum(self.parts.values())


def why_late(
    job: Job, spent: Breakdown, history: Sequence[HistoryEntry], now: datetime
) -> str | None:
    """The sentence; None when no deadline was missed.

    The clocks, if they disagree by more than the job was late; that the deadline, which is that of
    a whole task, had passed before the job arrived; the longest wait, if the job had
    been in time without it; else the work, if that alone takes longer than the deadline allowed,
    with the longest wait if that was longer still; else the two longest parts.
    """
    if job.status is JobStatus.FAILED:
        return _why_failed(job, now)
    if (miss := _miss(job, spent, now)) is not None:
        own = [entry for entry in history if entry.attempt == job.attempt.attempt]
        return f"{_what(job, miss)}{_why(miss, own)}."
    return _why_gap(job) if timing.tbt_met(job) is False else None


def _miss(job: Job, spent: Breakdown, now: datetime) -> _Miss | None:
    request = job.request
    if request is None or request.deadline_at is None:
        return None
    end = now if job.outcome is None else job.outcome.finished_at
    arrived_at, deadline_at = request.arrived_at, request.deadline_at
    if timing.ttft_met(job, now) is False:
        at = job.attempt.first_token_at or end
        return _Miss("first", at, spent.to_first_token, arrived_at, deadline_at)
    if timing.ttlt_met(job, now) is False:
        return _Miss("last", end, spent.parts, arrived_at, deadline_at)
    return None


def _what(job: Job, miss: _Miss) -> str:
    if job.status is JobStatus.EXPIRED:
        return "It expired"
    if job.outcome is None and (miss.token == "last" or job.attempt.first_token_at is None):
        return f"Its {miss.token} token is {duration(miss.late_s)} overdue"
    return f"Its {miss.token} token came {duration(miss.late_s)} late"


def _why(miss: _Miss, history: Sequence[HistoryEntry]) -> str:
    """What follows the fact, after a colon; empty if nothing is known."""
    parts = miss.parts
    longest_first = sorted(parts, key=lambda part: -parts[part])
    waits = [part for part in longest_first if part not in _WORK]
    work = [part for part in longest_first if part in _WORK]
    if miss.clock_skew_s >= max(miss.late_s, 0.001):
        return f": the clocks that timed it disagree by {duration(miss.clock_skew_s)}"
    if miss.allowed_s <= 0:
        return f": its task's deadline had passed {duration(-miss.allowed_s)} before it arrived"
    if waits and parts[waits[0]] >= miss.late_s:
        causes = waits[:1]
    elif work and sum(parts[part] for part in work) >= miss.allowed_s:
        said = f": {_all_said(work, miss, history)}, longer than the deadline allowed"
        longer = [part for part in waits[:1] if part == longest_first[0]]
        return f"{said}, and {_all_said(longer, miss, history)}" if longer else said
    else:
        causes = longest_first[:2]
    return f": {_all_said(causes, miss, history)}" if causes else ""


def _all_said(causes: Sequence[Part], miss: _Miss, history: Sequence[HistoryEntry]) -> str:
    return " and ".join(
        SAID[part].format(duration(miss.parts[part])) + _decision(part, miss, history)
        for part in causes
    )


def _decision(part: Part, miss: _Miss, history: Sequence[HistoryEntry]) -> str:
    """The decision that was in force the longest, if for at least half of this wait."""
    kind = _DECISIONS.get(part)
    if kind is None:
        return ""
    made = reversed(list(_in_force(kind, miss, history)))  # of several, the first
    in_force_s, entry = max(made, key=lambda each: each[0], default=(0.0, None))
    if entry is None or in_force_s < miss.parts[part] / 2:
        return ""
    return f" ({kind}: {entry.reason})" if entry.reason else f" ({kind})"


def _in_force(
    kind: EventType, miss: _Miss, history: Sequence[HistoryEntry]
) -> Iterator[tuple[float, HistoryEntry]]:
    """Decisions of this kind that may have made the job late, with how many seconds each held; the
    last one first.

    One that was made after the deadline, or because the job was late anyway, has not.
    """
    until = miss.at
    for entry in reversed(history):
        made_it_late = entry.at < miss.deadline_at and entry.reason != CONSEQUENCE
        if entry.type == kind and made_it_late:
            yield (until - entry.at).total_seconds(), entry
        if entry.type == _ENDS[kind]:
            until = min(until, entry.at)


def _why_failed(job: Job, now: datetime) -> str | None:
    if timing.ttft_met(job, now) is not False and timing.ttlt_met(job, now) is not False:
        return None
    message = job.outcome.error_message if job.outcome else None
    return f"It failed: {message}" if message else "It failed."


def _why_gap(job: Job) -> str:
    assert job.request is not None
    gap_ms, limit_ms = job.attempt.largest_gap_ms or 0.0, job.request.tbt_ms or 0.0
    said = f"Two tokens came {gap_ms:.0f} ms apart; {limit_ms:g} ms was the limit."
    times = None if job.outcome is None else job.outcome.times
    cause = None if times is None else times.gap_cause
    return said if cause is None else f"{said} {BETWEEN[cause]}"
