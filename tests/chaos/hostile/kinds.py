"""What a hostile record is, and what its kinds are made from.

A kind that carries a valid job is acknowledged like any other: the job has to end as the kind says.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from schemas import JobRequest, PoolTopics
from tests.chaos.journal import AcknowledgedJob, Expectation
from tests.chaos.workload import output_of


@dataclass(frozen=True, slots=True)
class HostileRecord:
    topic: str
    value: bytes | None
    key: bytes | None = b"hostile"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
    codec: str | None = None
    """How its producer compresses it."""
    aborted: bool = False
    """Published in a transaction that is aborted."""
    refused: bool = False
    """No job for a worker: it has to become a dead letter."""
    job_id: UUID | None = None
    """The job that it carries, if that has to end somehow."""
    expectation: Expectation | None = None
    """What has to become of it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a hostile record is made from."""

    choose: random.Random
    topics: PoolTopics
    engine: str
    model: str
    running: Sequence[AcknowledgedJob]
    """Jobs that were acknowledged a moment ago."""
    published: Sequence[JobRequest]
    """Jobs that the load published by itself, to be published again."""

    def new_id(self) -> UUID:
        return UUID(int=self.choose.getrandbits(128), version=4)

    def job_topic(self) -> str:
        return self.choose.choice(self.topics.jobs).name

    def job(self, **changes: Any) -> dict[str, Any]:
        """A valid job as a JSON document, with `changes`."""
        fields = {
            "schema_version": 1,
            "job_id": str(self.new_id()),
            "model": self.model,
            "prompt": "hostile",
            "qos": "chat",
            "max_tokens": 8,
            "ignore_eos": True,
            "tenant": "hostile",
        }
        return fields | changes


Make = Callable[[Setting], HostileRecord]


@dataclass(frozen=True, slots=True)
class HostileKind:
    name: str
    make: Make = field(compare=False)
    engine: str | None = None
    """Only with this engine."""


KINDS: dict[str, HostileKind] = {}


def kind(name: str, engine: str | None = None) -> Callable[[Make], Make]:
    """Add a kind to `KINDS`."""

    def register(make: Make) -> Make:
        KINDS[name] = HostileKind(name, make, engine)
        return make

    return register


def kinds_for(engine: str) -> list[str]:
    return sorted(each.name for each in KINDS.values() if each.engine in (None, engine))


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def valid_job(setting: Setting, document: dict[str, Any], **record: Any) -> HostileRecord:
    """A record of a job that has to complete like any other, unless `record` says otherwise."""
    if "expectation" not in record:
        output = output_of(JobRequest.model_validate(document), setting.engine)
        reply_topic = document.get("reply_topic")
        record["expectation"] = Expectation(output=output, reply_topic=reply_topic)
    return _job_record(setting.topics.interactive.name, document, **record)


def invalid_job(setting: Setting, document: dict[str, Any]) -> HostileRecord:
    """A record of a job that has to fail. Who names a topic for the reply gets one."""
    failed = Expectation(statuses=frozenset({"failed"}), reply_topic=document.get("reply_topic"))
    return _job_record(setting.job_topic(), document, expectation=failed, refused=True)


def _job_record(topic: str, document: dict[str, Any], **record: Any) -> HostileRecord:
    job_id = document["job_id"]
    return HostileRecord(
        topic, encoded(document), key=job_id.encode(), job_id=UUID(job_id), **record
    )
