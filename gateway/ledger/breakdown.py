"""Where a job's time went, or goes: parts that sum up to the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.ledger.job import Job
from gateway.ledger.queries import HistoryEntry
from niyama.time_walk import walk
from schemas import JobTimes, TimeParts


class Part(StrEnum):
    """In the order in which a job passes through them, by their names in the API.

    The worker's are those of `schemas.TimeParts`. It reports them when a job ends; until then
    events tell INTAKE, WAITING, PREFILL and ANSWER apart, and no more.
    """

    PUBLISH = "publish_s"
    QUEUE = "queue_s"
    EARLIER_ATTEMPTS = "earlier_attempts_s"
    """From the first sign of an attempt that did not finish to when the last one began."""
    PREPARING = "preparing_s"
    INTAKE = "intake_s"
    """Publish, queue and preparing: until it was admitted."""
    WAITING = "waiting_s"
    PARKED = "parked_s"
    COMPUTING = "computing_s"
    PREFILL = "prefill_s"
    """Waiting, parked, computing and beside others, since its prefill started."""
    DECODE = "decode_s"
    BESIDE = "beside_s"
    RETRACTED = "retracted_s"
    PACED = "paced_s"
    ANSWER = "answer_s"
    """All that came after its first token."""
    DELIVERY = "delivery_s"


Parts = Mapping[Part, float]
"""Seconds. What is not in it took no time."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A job's time, in seconds from its arrival to its end, or until now."""

    total_s: float
    until_first_token: Parts | None
    """None: there was no token."""
    until_end: Parts
    """From the first token on; if there was none, from the arrival."""

    @property
    def to_first_token(self) -> Parts:
        """What had passed when the first token came, or until now."""
        return self.until_end if self.until_first_token is None else self.until_first_token

    @property
    def parts(self) -> Parts:
        """Of the whole time."""
        groups = (self.until_first_token or {}, self.until_end)
        return {
            part: sum(group.get(part, 0.0) for group in groups)
            for part in Part
            if any(part in group for group in groups)
        }

    @property
    def clock_skew_s(self) -> float:
        """What the clocks of producer and worker disagree about: the total less the parts."""
        return self.total_s - sum(self.parts.values())


def breakdown(job: Job, history: Sequence[HistoryEntry], now: datetime) -> Breakdown | None:
    """Where the job's time went. None while its record is not known.

    What its worker reported, or, of an open job and of one whose end no such report came with,
    what the times of its events say.
    """
    if job.request is None:
        return None
    arrived_at = job.request.arrived_at
    ended_at = now if job.outcome is None else job.outcome.finished_at
    total_s = (ended_at - arrived_at).total_seconds()
    times = None if job.outcome is None else job.outcome.times
    first, rest = _of_events(job, arrived_at, total_s) if times is None else _reported(times)
    _split_attempts(first or rest, _first_attempt_s(job, history, arrived_at))
    return Breakdown(total_s, first, rest)


_Seconds = dict[Part, float]


def _reported(times: JobTimes) -> tuple[_Seconds | None, _Seconds]:
    first = times.until_first_token
    return None if first is None else _seconds(first), _seconds(times.until_end)


def _seconds(parts: TimeParts) -> _Seconds:
    return {Part(name): s for name, s in parts.model_dump(exclude_none=True).items()}


def _of_events(job: Job, arrived_at: datetime, total_s: float) -> tuple[_Seconds | None, _Seconds]:
    attempt = job.attempt
    admitted_s, started_s, first_s = (
        None if at is None else (at - arrived_at).total_seconds()
        for at in (attempt.admitted_at, attempt.started_at, attempt.first_token_at)
    )
    started_s = first_s if started_s is None else started_s
    steps = [(Part.INTAKE, started_s if admitted_s is None else admitted_s)]
    before, now_s = walk(0.0, total_s, [*steps, (Part.WAITING, started_s), (Part.PREFILL, first_s)])
    if first_s is None:
        return None, before
    after, _ = walk(now_s, total_s, [(Part.ANSWER, None)])
    return before, after


def _first_attempt_s(
    job: Job, history: Sequence[HistoryEntry], arrived_at: datetime
) -> float | None:
    """When an earlier attempt was first heard of, in seconds from the arrival. None: there was
    none."""
    heard_at = [entry.at for entry in history if entry.attempt < job.attempt.attempt]
    return max(0.0, (min(heard_at) - arrived_at).total_seconds()) if heard_at else None


def _split_attempts(parts: _Seconds, since_s: float | None) -> None:
    """To its last attempt, all that came before is one wait: here it becomes two."""
    for part in (Part.QUEUE, Part.INTAKE):
        wait_s = parts.get(part, 0.0)
        if since_s is not None and since_s < wait_s:
            parts[part], parts[Part.EARLIER_ATTEMPTS] = since_s, wait_s - since_s
