"""What is noted of one attempt at a job, until it is known whether its trace is kept.

Spans of the SDK are made of it afterwards, if at all: they take some hundred times as long as a
note does, and of most jobs nothing is kept.
"""

import random
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from uuid import UUID

from niyama.kafka import ConsumedRecord
from schemas import EventType, JobError, JobResult, JobTimes, Usage
from schemas.headers import Headers, trace_parent
from workers.engine.port import PrefillChunks
from workers.job import Job
from workers.policy.decision import Decision, DecisionKind

MAX_DECISIONS = 100
"""Noted of one job; one that is parked or relegated more often shows the first of them."""

SAMPLED = 0x01
"""The flag in a traceparent: whoever began the trace keeps it."""


class Ending(NamedTuple):
    """How an attempt ended."""

    kind: EventType
    at_s: float
    usage: Usage | None = None
    largest_gap_ms: float | None = None
    finish_reason: str | None = None
    error: JobError | None = None
    times: JobTimes | None = None


class NoTrace:
    """In place of a trace, in a worker that does not trace."""

    __slots__ = ("trace_id",)
    traceparent: None = None

    def __init__(self, trace_id: int | None = None) -> None:
        """The producer's trace, if it has one."""
        self.trace_id = trace_id

    def admitted(self, at_s: float) -> None:
        """Nothing is noted."""

    def decided(self, decision: Decision) -> None:
        """Nothing is noted."""

    def first_token(self, at_s: float) -> None:
        """Nothing is noted."""

    def prefilled(self, chunks: PrefillChunks) -> None:
        """Nothing is noted."""

    def ended(self, kind: EventType, at_s: float, **details: object) -> None:
        """Nothing is noted."""


NO_TRACE = NoTrace()


@dataclass(slots=True)
class JobTrace:
    """The notes. All times are UTC epoch seconds."""

    record: ConsumedRecord
    attempt: int
    job_id: UUID | None
    """None: the record is no job at all."""
    job: Job | None
    """None: the record was refused before that was known."""
    taken_s: float
    """The record was read."""
    headers: Headers
    """The trace context in the record, if any."""
    trace_id: int
    process_span_id: int
    chat_span_id: int
    is_sampled: bool
    """It is kept, however the job ends."""
    admitted_s: float | None = None
    started_s: float | None = None
    first_token_s: float | None = None
    """Shown, which may be after it was computed."""
    decisions: list[Decision] = field(default_factory=list)
    decisions_left_out: int = 0
    was_relegated: bool = False
    prefill: PrefillChunks | None = None
    ending: Ending | None = None
    kept_because: list[str] = field(default_factory=list)
    """Empty: it is not kept, or that is not decided yet."""

    @classmethod
    def begin(
        cls,
        record: ConsumedRecord,
        attempt: int,
        job: Job | None,
        headers: Headers,
        taken_s: float,
        sample_ratio: float,
    ) -> Self:
        """The trace that the record's `headers` name, or a new one.

        Of new ones, the share `sample_ratio` is sampled, by their ids.
        """
        process, chat = random.getrandbits(64) or 1, random.getrandbits(64) or 1
        if (parent := trace_parent(headers)) is not None:
            trace_id, is_sampled = parent.trace_id, bool(parent.flags & SAMPLED)
        else:
            headers, trace_id = (), random.getrandbits(128) or 1
            is_sampled = (trace_id & (2**64 - 1)) < sample_ratio * 2**64
        job_id = None if job is None else job.job_id
        ids = trace_id, process, chat
        return cls(record, attempt, job_id, job, taken_s, headers, *ids, is_sampled)

    @property
    def traceparent(self) -> str:
        """The context of the generation, for the engine."""
        return f"00-{self.trace_id:032x}-{self.chat_span_id:016x}-{int(self.is_sampled):02x}"

    def ended(
        self,
        kind: EventType,
        at_s: float,
        *,
        usage: Usage | None = None,
        largest_gap_ms: float | None = None,
        result: JobResult | None = None,
        error: JobError | None = None,
        times: JobTimes | None = None,
        **_: object,
    ) -> None:
        """The job's last event, with its details, is on its way to Kafka."""
        finish_reason = None if result is None else result.finish_reason
        self.ending = Ending(kind, at_s, usage, largest_gap_ms, finish_reason, error, times)

    def admitted(self, at_s: float) -> None:
        """Its prompt was checked and tokenized."""
        self.admitted_s = at_s

    def first_token(self, at_s: float) -> None:
        """Its first token was shown."""
        self.first_token_s = at_s

    def decided(self, decision: Decision) -> None:
        """The scheduler decided something about the job."""
        if decision.kind is DecisionKind.STARTED:
            self.started_s = decision.at_s
        elif decision.kind is DecisionKind.RELEGATED:
            self.was_relegated = True
        if len(self.decisions) < MAX_DECISIONS:
            self.decisions.append(decision)
        else:
            self.decisions_left_out += 1

    def prefilled(self, chunks: PrefillChunks) -> None:
        """The engine has computed the prompt in these chunks."""
        self.prefill = chunks
