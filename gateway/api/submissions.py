"""Taking jobs: from a request's body to an acknowledged record in Kafka."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

from aiokafka.errors import KafkaError
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from gateway.api.problems import FieldError, ProblemError, unavailable
from gateway.ledger.projection import Request
from gateway.ledger.queries import Ledger
from gateway.ledger.records import Place, digest, request_of
from gateway.settings import GatewaySettings
from niyama import JobAcknowledgement, Producer
from schemas import JobRequest, Qos
from schemas.decode import explain, field_and_message
from schemas.headers import Headers, trace_context
from schemas.job import MAX_JOB_BYTES
from schemas.qos import UnknownQosClassError

KAFKA_TIMEOUT_S = 10.0
REMEMBERED_JOBS = 10_000
MAX_KEY_CHARACTERS = 256

_KEY_NAMESPACE = UUID("7d1c2f0e-51f4-5a53-9c3a-2f6a8e5a9d10")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that is in the log. ``job`` has the columns of its row, or the first of them."""

    job_id: UUID
    job: Any
    existed: bool


class Submissions:
    """Publishes jobs, each one once however often it is sent with the same key or id.

    Jobs that this gateway took lately are remembered, because the ledger learns of them only
    a moment later.
    """

    def __init__(self, settings: GatewaySettings, producer: Producer, ledger: Ledger) -> None:
        self._settings = settings
        self._catalog = settings.qos_catalog
        self._producer = producer
        self._ledger = ledger
        self._recent: OrderedDict[UUID, Request] = OrderedDict()
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def recent(self, job_id: UUID) -> Request | None:
        """A job that this gateway took lately, for when the ledger does not have it yet."""
        return self._recent.get(job_id)

    async def submit(self, body: bytes, key: str | None, headers: Mapping[str, str]) -> Accepted:
        """Publish the job in ``body`` unless it was published before.

        Raises ProblemError: 400 no JSON, 409 another job has the key or id, 413, 422, 503.
        """
        job = parse(body)
        qos = self._resolve(job)
        known_id = _id_of(job, key)
        job = job.model_copy(update={"job_id": known_id or uuid7()})
        trace = trace_context(headers)
        if known_id is None:
            return await self._publish(job, qos, trace)
        # Two requests with one key at the same time are one after the other here.
        async with self._locks.setdefault(known_id, asyncio.Lock()):
            return await self._find(job) or await self._publish(job, qos, trace)

    def _resolve(self, job: JobRequest) -> Qos:
        served = self._settings.model
        if served is not None and job.model != served:
            raise _invalid("model", f"this pool serves {served!r}, not {job.model!r}")
        try:
            return self._catalog.resolve(job.qos)
        except UnknownQosClassError as error:
            raise _invalid("qos", str(error)) from error

    async def _find(self, job: JobRequest) -> Accepted | None:
        assert job.job_id is not None
        row = await self._ledger.row(job.job_id)
        if row is None or row.arrived_at is None:
            found: Any = self.recent(job.job_id)
        else:
            found = row
        if found is None:
            return None
        if found.request_sha256 != digest(job.to_bytes()):
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"job {job.job_id} exists with another body: repeat that body to get the same "
                "job, or use another Idempotency-Key (or job_id)",
                kind="conflict",
            )
        return Accepted(job.job_id, found, existed=True)

    async def _publish(self, job: JobRequest, qos: Qos, trace: Headers) -> Accepted:
        assert job.job_id is not None
        value = job.to_bytes()
        if len(value) > MAX_JOB_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the job takes {len(value):,} bytes of at most {MAX_JOB_BYTES:,}",
            )
        ack = await self._acknowledged(job, trace)
        place = Place(ack.topic, ack.partition, ack.offset)
        pool = self._settings.pool
        request = request_of(job, qos, ack.arrived_at, pool, place, digest(value))
        self._recent[job.job_id] = request
        if len(self._recent) > REMEMBERED_JOBS:
            self._recent.popitem(last=False)
        return Accepted(job.job_id, request, existed=False)

    async def _acknowledged(self, job: JobRequest, trace: Headers) -> JobAcknowledgement:
        try:
            async with asyncio.timeout(KAFKA_TIMEOUT_S):
                return await self._producer.publish(job, headers=trace)
        except (KafkaError, TimeoutError) as error:
            raise unavailable(
                "Kafka did not confirm the job in time, so it may be taken or not: send it "
                "again with the same Idempotency-Key (or job_id), and it will run once"
            ) from error

    async def cancel(self, job_id: UUID) -> None:
        """Ask for a job to be cancelled. Raises ProblemError (503)."""
        try:
            async with asyncio.timeout(KAFKA_TIMEOUT_S):
                await self._producer.cancel(job_id, reason="requested through the API")
        except (KafkaError, TimeoutError) as error:
            raise unavailable("Kafka did not confirm the request: send it again") from error


def parse(body: bytes) -> JobRequest:
    """Raises ProblemError: 400 when it is no JSON, 422 when it is no job."""
    try:
        return JobRequest.model_validate_json(body)
    except ValidationError as error:
        explained = explain(error)
        if explained.code == "invalid_json":
            raise ProblemError(HTTPStatus.BAD_REQUEST, explained.message) from error
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            explained.message,
            kind=explained.code,
            errors=[
                FieldError(where=field, message=message)
                for field, message in map(field_and_message, error.errors(include_url=False))
            ],
        ) from error


def _id_of(job: JobRequest, key: str | None) -> UUID | None:
    """The id that the client chose, by itself or through its key."""
    if key is None:
        return job.job_id
    if job.job_id is not None:
        raise _invalid("job_id", "give either a job_id or an Idempotency-Key, not both")
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise _invalid("Idempotency-Key", f"use 1 to {MAX_KEY_CHARACTERS} characters")
    return uuid5(_KEY_NAMESPACE, f"{job.tenant}\n{key}")


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{field}: {message}",
        kind="invalid_request",
        errors=[FieldError(where=field, message=message)],
    )
