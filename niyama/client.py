"""Publishing jobs: what a producer's program uses, and the gateway too."""

from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import UUID

from uuid_utils.compat import uuid7

from niyama import kafka
from niyama.settings import KafkaSettings
from schemas import JobControl, JobRequest
from schemas.headers import Headers
from schemas.job import MAX_JOB_BYTES


class JobTooLargeError(ValueError):
    """The encoded job is larger than the contract allows."""


@dataclass(frozen=True, slots=True)
class JobAcknowledgement:
    """Kafka has the job: it exists from here on, whatever happens to whoever published it."""

    job_id: UUID
    arrived_at: datetime
    """UTC, in milliseconds; every deadline of the job counts from here."""
    topic: str
    partition: int
    offset: int


class Producer:
    """Publishes jobs and cancellations to one pool's topics.

    Use it as an async context manager. It may be shared by any number of tasks; concurrent
    publications share their round trips to the broker.
    """

    def __init__(self, settings: KafkaSettings | None = None, linger_ms: int = 0) -> None:
        self._settings = settings or KafkaSettings()
        self._topics = self._settings.topics
        self._catalog = self._settings.qos_catalog
        self._linger_ms = linger_ms

    async def __aenter__(self) -> Self:
        self._kafka = kafka.producer(self._settings, linger_ms=self._linger_ms)
        await self._kafka.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is under way, then disconnect."""
        await self._kafka.stop()

    async def publish(
        self,
        job: JobRequest,
        *,
        key: str | None = None,
        headers: Headers = (),
        arrived_at: datetime | None = None,
    ) -> JobAcknowledgement:
        """Publish ``job`` and return once all in-sync replicas have it.

        A job without an id gets a UUIDv7. ``key`` decides the partition: jobs of one key (a
        session, a shared prefix) meet the same replica; without one it is the job's id.

        Raises UnknownQosClassError, JobTooLargeError, or an aiokafka KafkaError.
        """
        job_id = job.job_id or uuid7()
        value = job.model_copy(update={"job_id": job_id}).to_bytes()
        if len(value) > MAX_JOB_BYTES:
            raise JobTooLargeError(
                f"the job is {len(value):,} bytes; at most {MAX_JOB_BYTES:,} are taken"
            )
        topic = self._topics.for_kind(self._catalog.resolve(job.qos).kind)
        arrived_at = arrived_at or datetime.now(UTC)
        timestamp_ms = int(arrived_at.timestamp() * 1000)
        record = await self._kafka.send_and_wait(
            topic.name,
            value,
            key=(key or str(job_id)).encode(),
            timestamp_ms=timestamp_ms,
            headers=list(headers),
        )
        return JobAcknowledgement(
            job_id=job_id,
            arrived_at=datetime.fromtimestamp(timestamp_ms / 1000, UTC),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )

    async def cancel(self, job_id: UUID, reason: str | None = None) -> None:
        """Ask whoever has the job to stop it; its ``cancelled`` event says that it did."""
        control = JobControl(job_id=job_id, requested_at=datetime.now(UTC), reason=reason)
        await self._kafka.send_and_wait(
            self._topics.control.name, control.to_bytes(), key=str(job_id).encode()
        )
