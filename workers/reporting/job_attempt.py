"""Which attempt at which job an event is about."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from niyama.kafka import ConsumedRecord, source_of
from schemas.event import Source
from schemas.headers import Headers, trace_context
from schemas.topics import record_key


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One attempt at one job, numbered from 1."""

    job_id: UUID
    number: int
    source: Source
    trace: Headers = ()
    """The job's trace context, passed on to its events."""
    is_superseded: Callable[[], bool] | None = None
    """Whether another worker has taken over, so that nothing more is to be said about it."""
    key: bytes = field(init=False)
    """Of the attempt's records: a job's records stay in order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", record_key(self.job_id))

    @classmethod
    def of(
        cls,
        record: ConsumedRecord,
        job_id: UUID,
        number: int,
        is_superseded: Callable[[], bool] | None = None,
    ) -> Self:
        """The attempt at the job that `record` carries."""
        trace = trace_context(record.headers) if record.headers else ()
        return cls(job_id, number, source_of(record), trace, is_superseded)
