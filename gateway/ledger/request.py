"""What a job asks for, as the ledger keeps it: a column of `jobs` for each field."""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Self, TypedDict, Unpack

from schemas import JobRequest, Kind, Qos


@dataclass(frozen=True, slots=True)
class Origin:
    """When and where a job was published."""

    arrived_at: datetime
    pool: str
    source_topic: str
    source_partition: int
    source_offset: int
    request_sha256: bytes


_origin_fields = attrgetter(*(part.name for part in fields(Origin)))


class ReadablePart(TypedDict, total=False):
    """What can be read of an invalid job."""

    tenant: str
    reply_topic: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Request(Origin):
    """What was asked for. Of an invalid job its origin is known, and what else can be read."""

    model: str | None = None
    tenant: str | None = None
    application: str | None = None
    importance: str | None = None
    qos_class: str | None = None
    """None: the job gave explicit targets."""
    kind: Kind | None = None
    ttft_s: float | None = None
    tbt_s: float | None = None
    ttlt_s: float | None = None
    deadline_at: datetime | None = None
    """Of the first token (interactive) or the last one (others); of a task, if it is a call."""
    task_id: str | None = None
    task_call: int | None = None
    task_calls_left: int | None = None
    expire_after_s: float | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    reply_topic: str | None = None
    metadata: dict[str, str] | None = None

    @classmethod
    def of_invalid(cls, origin: Origin, **readable: Unpack[ReadablePart]) -> Self:
        """The request of a record that is no valid job."""
        return cls(*_origin_fields(origin), **readable)

    @classmethod
    def of(cls, job: JobRequest, qos: Qos, origin: Origin) -> Self:
        """The request of a valid job, whose `qos` was resolved."""
        return replace(
            cls.of_invalid(origin),
            model=job.model,
            tenant=job.tenant,
            application=job.application,
            importance=job.importance,
            qos_class=qos.name,
            kind=qos.kind,
            ttft_s=qos.ttft_s,
            tbt_s=qos.tbt_s,
            ttlt_s=qos.ttlt_s,
            deadline_at=qos.deadline_at(origin.arrived_at),
            task_id=None if qos.task is None else qos.task.id,
            task_call=None if qos.task is None else qos.task.call,
            task_calls_left=None if qos.task is None else qos.task.calls_left,
            expire_after_s=job.expire_after_s,
            max_tokens=job.max_tokens,
            stream=job.stream,
            reply_topic=job.reply_topic,
            metadata=job.metadata,
        )

    @property
    def ttft_ms(self) -> float | None:
        return _milliseconds(self.ttft_s)

    @property
    def tbt_ms(self) -> float | None:
        return _milliseconds(self.tbt_s)

    @property
    def ttlt_ms(self) -> float | None:
        return _milliseconds(self.ttlt_s)


def _milliseconds(seconds: float | None) -> float | None:
    # Rounded, so that a job's 4.1 ms are not shown as 4.1000000000000005.
    return None if seconds is None else round(seconds * 1000, 6)
