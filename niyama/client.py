"""Publishing jobs: what a producer's program uses, and the gateway too."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self
from uuid import UUID

from opentelemetry.trace import TracerProvider, get_tracer
from uuid_utils.compat import uuid7

from niyama import kafka
from niyama.producers import LastingProducer
from niyama.settings import KafkaSettings
from niyama.tracing.context import with_context_of
from niyama.tracing.names import SCOPE
from niyama.tracing.send import makes_spans, sending, sent
from schemas import JobControl, JobRequest, Qos
from schemas.headers import Headers
from schemas.job import MAX_JOB_BYTES, JobTooLargeError
from schemas.topics import record_key

BATCH_BYTES = 128 * 1024
"""The most that one request has for one partition. Who publishes while a batch is full waits for
the next one, which costs as much again; with aiokafka's 16 KiB that was most jobs of a burst."""


@dataclass(frozen=True, slots=True)
class EncodedJob:
    """A job ready to be published: its id, its quality of service, its topic and its bytes."""

    job_id: UUID
    job: JobRequest
    """As it is encoded, with its id."""
    qos: Qos
    topic: str
    key: bytes
    """Decides the partition: the calls of a task have one, other jobs one each."""
    value: bytes


@dataclass(frozen=True, slots=True)
class JobAcknowledgement:
    """Kafka has the job: it exists now, whatever happens to the process that published it."""

    job_id: UUID
    arrived_at: datetime
    """UTC, in milliseconds; every deadline of the job counts from here."""
    topic: str
    partition: int
    offset: int


class NotConnectedError(RuntimeError):
    """A producer was used outside of `async with`."""

    def __init__(self) -> None:
        super().__init__("the producer is not connected: use it in `async with Producer()`")


class Producer:
    """Publishes jobs and cancellations to one pool's topics.

    Use it as an async context manager: before that, whatever needs Kafka raises
    NotConnectedError. It may be shared by any number of tasks; concurrent
    publications share their round trips to the broker.
    """

    def __init__(
        self,
        settings: KafkaSettings | None = None,
        linger_ms: int = 0,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        """`tracer_provider`: OpenTelemetry's, for spans; by default, the program's own, if any."""
        self._settings = settings or KafkaSettings()
        self._topics = self._settings.topics
        self._catalog = self._settings.qos_catalog
        self._tracer_provider = tracer_provider
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._create = partial(
            kafka.producer, self._settings, linger_ms=linger_ms, max_batch_size=BATCH_BYTES
        )
        self._entered: LastingProducer | None = None

    async def __aenter__(self) -> Self:
        """Raises an aiokafka KafkaError."""
        self._entered = await LastingProducer(self._create).__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is under way, up to 30 s, then disconnect."""
        leaving = self._kafka
        self._entered = None
        await leaving.__aexit__(kind, error, traceback)

    async def publish(
        self,
        job: JobRequest,
        *,
        key: str | None = None,
        headers: Headers = (),
        arrived_at: datetime | None = None,
    ) -> JobAcknowledgement:
        """Publish `job` and return once all in-sync replicas have it.

        A job without an id gets a UUIDv7. `key` decides the partition: jobs of one key (a
        session, a shared prefix) meet the same replica; without one it is the id of the job's
        task, or of the job.

        Raises UnknownQosClassError, JobTooLargeError, or an aiokafka KafkaError.
        """
        encoded = self.encode(job)
        return await self.send(encoded, key=key, headers=headers, arrived_at=arrived_at)

    def encode(self, job: JobRequest) -> EncodedJob:
        """What `publish` sends. Raises UnknownQosClassError or JobTooLargeError."""
        job_id = job.job_id or uuid7()
        if job.job_id is None:
            job = job.model_copy(update={"job_id": job_id})
        qos = self._catalog.resolve(job.qos)
        value = job.to_bytes()
        if len(value) > MAX_JOB_BYTES:
            raise JobTooLargeError(len(value))
        key = record_key(job_id) if qos.task is None else qos.task.id.encode()
        return EncodedJob(job_id, job, qos, self._topics.for_kind(qos.kind).name, key, value)

    async def send(
        self,
        encoded: EncodedJob,
        *,
        key: str | None = None,
        headers: Headers = (),
        arrived_at: datetime | None = None,
    ) -> JobAcknowledgement:
        """Like `publish`, for a job that was encoded before. Raises an aiokafka KafkaError.

        In a program that traces with OpenTelemetry's SDK this is a span, and the record carries
        its context; its parent is the `traceparent` in `headers`, or the current span.
        """
        arrived_at = arrived_at or datetime.now(UTC)
        timestamp_ms = int(arrived_at.timestamp() * 1000)
        write = partial(
            self._kafka.send,
            encoded.topic,
            encoded.value,
            key=key.encode() if key else encoded.key,
            timestamp_ms=timestamp_ms,
        )
        if makes_spans(self._tracer_provider):
            size_bytes = len(encoded.value)
            with sending(self._tracer, encoded.topic, encoded.job_id, size_bytes, headers) as span:
                record = await write(headers=list(with_context_of(span, headers)))
                sent(span, record.partition, record.offset)
        else:
            record = await write(headers=list(headers))
        return JobAcknowledgement(
            job_id=encoded.job_id,
            arrived_at=datetime.fromtimestamp(timestamp_ms / 1000, UTC),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )

    async def cancel(self, job_id: UUID, reason: str | None = None) -> None:
        """Ask the worker that has the job to stop it; its `cancelled` event confirms that."""
        control = JobControl(job_id=job_id, requested_at=datetime.now(UTC), reason=reason)
        await self._kafka.send(
            self._topics.control.name, control.to_bytes(), key=record_key(job_id)
        )

    @property
    def connected(self) -> bool:
        """Whether jobs can be published: inside of `async with`, unless it is reconnecting."""
        return self._entered is not None and self._entered.connected

    @property
    def _kafka(self) -> LastingProducer:
        if self._entered is None:
            raise NotConnectedError
        return self._entered
