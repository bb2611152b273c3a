"""Where a job's time went, or goes: parts that sum up to the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.ledger.job import Job
from gateway.ledger.queries import HistoryEntry
from schemas import JobTimes, TimeParts


class Part(StrEnum):
    """In the order in which a job passes through them."""

    PUBLISH = "publish"
    QUEUE = "queue"
    EARLIER_ATTEMPTS = "earlier_attempts"
    """From the first sign of an attempt that did not finish to when the last one began."""
    PREPARING = "preparing"
    WAITING = "waiting"
    PARKED = "parked"
    COMPUTING = "computing"
    PREFILL = "prefill"
    """Waiting, parked and computing since its prefill started, which only the end tells apart."""
    DECODE = "decode"
    RETRACTED = "retracted"
    PACED = "paced"
    DELIVERY = "delivery"


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
    def clocks_s(self) -> float:
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
    first, rest = _of_events(job, arrived_at, ended_at) if times is None else _reported(times)
    _split_attempts(first or rest, _first_attempt_s(job, history, arrived_at))
    return Breakdown(total_s, first, rest)


_Seconds = dict[Part, float]


def _reported(times: JobTimes) -> tuple[_Seconds | None, _Seconds]:
    first = times.until_first_token
    return None if first is None else _seconds(first), _seconds(times.until_end)


def _seconds(parts: TimeParts) -> _Seconds:
    reported = parts.model_dump(exclude_none=True)
    return {part: reported[f"{part}_s"] for part in Part if f"{part}_s" in reported}


@dataclass(slots=True)
class _Walk:
    """Seconds by part, of a time that is gone through once."""

    now: datetime
    end: datetime
    seconds: _Seconds = field(default_factory=dict)

    def until(self, part: Part, at: datetime | None) -> None:
        """Count what is left until `at`, or to the end, as `part`."""
        at = max(self.now, self.end if at is None else min(at, self.end))
        if at > self.now:
            self.seconds[part] = (at - self.now).total_seconds()
        self.now = at


def _of_events(
    job: Job, arrived_at: datetime, ended_at: datetime
) -> tuple[_Seconds | None, _Seconds]:
    attempt = job.attempt
    walk = _Walk(arrived_at, ended_at)
    walk.until(Part.QUEUE, attempt.admitted_at or attempt.started_at or attempt.first_token_at)
    walk.until(Part.WAITING, attempt.started_at or attempt.first_token_at)
    walk.until(Part.PREFILL, attempt.first_token_at)
    if attempt.first_token_at is None:
        return None, walk.seconds
    after = _Walk(walk.now, ended_at)
    after.until(Part.DECODE, None)
    return walk.seconds, after.seconds


def _first_attempt_s(
    job: Job, history: Sequence[HistoryEntry], arrived_at: datetime
) -> float | None:
    """When an earlier attempt was first heard of, in seconds from the arrival. None: there was
    none."""
    heard_at = [entry.at for entry in history if entry.attempt < job.attempt.attempt]
    return max(0.0, (min(heard_at) - arrived_at).total_seconds()) if heard_at else None


def _split_attempts(parts: _Seconds, since_s: float | None) -> None:
    """To its last attempt, all that came before is one wait: here it becomes two."""
    wait_s = parts.get(Part.QUEUE, 0.0)
    if since_s is not None and since_s < wait_s:
        parts[Part.QUEUE], parts[Part.EARLIER_ATTEMPTS] = since_s, wait_s - since_s
