"""Taking jobs: from a request's body to an acknowledged record in Kafka."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID
from weakref import WeakValueDictionary

from aiokafka.errors import KafkaError
from opentelemetry.trace import get_current_span

from gateway.api.idempotency import IdempotencyKeys
from gateway.api.problems import ProblemError, unavailable, unprocessable
from gateway.database import UNREACHABLE, is_outage
from gateway.ledger.job import Job
from gateway.ledger.queries import Ledger
from gateway.ledger.records import digest
from gateway.ledger.reply_topics import ReplyTopicRule
from gateway.ledger.request import Origin, Request
from gateway.settings import GatewaySettings
from niyama import EncodedJob, NotConnectedError, Producer
from niyama.log_lines import set_log_context
from niyama.logs import Throttle
from schemas import JobRequest
from schemas.document import Fault, InvalidDocumentError, read_document
from schemas.headers import Headers, trace_context, trace_parent
from schemas.job import JobTooLargeError
from schemas.qos import UnknownQosClassError

log = logging.getLogger(__name__)

KAFKA_TIMEOUT_S = 10.0
TURN_TIMEOUT_S = 10.0
"""For another request with the same key or id that is being published."""
REMEMBERED_TIMEOUT_S = 1.0
"""For the ledger to say more about a job that is remembered anyway."""
REMEMBERED_JOBS = 10_000
MAX_KEY_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that is in the log: put there now, or, when it `existed`, before."""

    job: Job
    existed: bool


class Submissions:
    """Publishes jobs, each one once however often it is sent with the same key or id.

    The jobs that this gateway took last are remembered, because the ledger learns of them only
    a moment later.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        producer: Producer,
        ledger: Ledger,
        on_published: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        """`on_published` is told the topic of each job, what went wrong ("": nothing), and how
        many seconds that took."""
        self._pool = settings.pool
        self._model = settings.model
        self._reply_topics = ReplyTopicRule.of(settings)
        self._producer = producer
        self._on_published = on_published
        self._ledger = ledger
        self._keys = IdempotencyKeys(settings.idempotency_secret, ledger)
        self._recent: OrderedDict[UUID, Job] = OrderedDict()
        self._throttle = Throttle()
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def recent(self, job_id: UUID) -> Job | None:
        """A job that this gateway took recently, for when the ledger does not have it yet."""
        return self._recent.get(job_id)

    def is_recent(self, job_id: UUID) -> bool:
        """Whether the ledger has the job, or will have it soon."""
        return job_id in self._recent

    async def submit(self, body: bytes, key: str | None, headers: Mapping[str, str]) -> Accepted:
        """Publish the job in `body` unless it was published before.

        Raises ProblemError: 400 no JSON, 409 another job has the key or id, 413, 422, 503.
        """
        job = parse(body)
        chosen_id = await self._chosen_id(job, key)
        if chosen_id is not None:
            job = job.model_copy(update={"job_id": chosen_id})
        encoded = self._encode(job)
        sha256 = digest(encoded.value)
        # Where requests are traced, this one is a span: it has the client's context already.
        is_traced = get_current_span().get_span_context().is_valid
        trace = () if is_traced else trace_context(headers)
        parent = trace_parent(trace)
        set_log_context(encoded.job_id, parent.trace_id if parent else None)
        if chosen_id is None:
            return await self._publish(encoded, sha256, trace)
        if found := _same(await self._known(chosen_id), chosen_id, sha256):
            return found
        async with self._turn(chosen_id):
            # The request that came before this one may just have published the job.
            found = _same(self.recent(chosen_id), chosen_id, sha256)
            return found or await self._publish(encoded, sha256, trace)

    async def cancel(self, job_id: UUID) -> None:
        """Ask for a job to be cancelled. Raises ProblemError (503)."""
        set_log_context(job_id)
        async with _confirmed("Kafka did not confirm the request: send it again"):
            await self._producer.cancel(job_id, reason="requested through the API")

    async def _chosen_id(self, job: JobRequest, key: str | None) -> UUID | None:
        """The id that the client chose, directly or through its key."""
        if key is None:
            return job.job_id
        if job.job_id is not None:
            raise _invalid("job_id", "give either a job_id or an Idempotency-Key, not both")
        if not 0 < len(key) <= MAX_KEY_CHARACTERS:
            raise _invalid("Idempotency-Key", f"use 1 to {MAX_KEY_CHARACTERS} characters")
        return await self._keys.job_id(job.tenant, key)

    def _encode(self, job: JobRequest) -> EncodedJob:
        if self._model is not None and job.model != self._model:
            raise _invalid("model", f"this pool serves {self._model!r}, not {job.model!r}")
        if job.reply_topic and (refusal := self._reply_topics.refusal(job.reply_topic)):
            raise _invalid("reply_topic", refusal)
        try:
            return self._producer.encode(job)
        except UnknownQosClassError as error:
            raise _invalid("qos", str(error)) from error
        except JobTooLargeError as error:
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error

    async def _known(self, job_id: UUID) -> Job | None:
        """The job that was published with this id: as the ledger has it, or as it was sent."""
        recent = self.recent(job_id)
        job = await self._in_ledger(job_id, REMEMBERED_TIMEOUT_S if recent else None)
        return recent if job is None or job.request is None else job

    async def _in_ledger(self, job_id: UUID, timeout_s: float | None) -> Job | None:
        """None also during an outage: a job that is then published again is refused by its worker,
        and the first one stays the job."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ledger.job(job_id)
        except UNREACHABLE as error:
            if not is_outage(error):
                raise
            self._throttle.warning(log, "jobs are taken without asking the ledger: %r", error)
            return None

    @asynccontextmanager
    async def _turn(self, job_id: UUID) -> AsyncIterator[None]:
        """One request at a time publishes the job. Raises ProblemError (503)."""
        lock = self._locks.setdefault(job_id, asyncio.Lock())
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await lock.acquire()
        except TimeoutError as error:
            raise unavailable("the same job is being taken: send it again to get it") from error
        try:
            yield
        finally:
            lock.release()

    async def _publish(self, encoded: EncodedJob, sha256: bytes, trace: Headers) -> Accepted:
        async with _confirmed(
            "Kafka did not confirm the job in time, so it may or may not exist: send it again "
            "with the same Idempotency-Key (or job_id), and it will run once"
        ):
            with self._measured(encoded.topic):
                ack = await self._producer.send(encoded, headers=trace)
        origin = Origin(ack.arrived_at, self._pool, ack.topic, ack.partition, ack.offset, sha256)
        job = Job(encoded.job_id, Request.of(encoded.job, encoded.qos, origin))
        self._recent[job.job_id] = job
        if len(self._recent) > REMEMBERED_JOBS:
            self._recent.popitem(last=False)
        return Accepted(job, existed=False)

    @contextmanager
    def _measured(self, topic: str) -> Iterator[None]:
        error_type, started_s = "", time.monotonic()
        try:
            yield
        except BaseException as error:
            error_type = type(error).__name__
            raise
        finally:
            self._on_published(topic, error_type, time.monotonic() - started_s)


def _same(job: Job | None, job_id: UUID, sha256: bytes) -> Accepted | None:
    """`job`, which has this id already. Raises ProblemError when it is not the one that is sent."""
    if job is None or job.request is None:
        return None
    if job.request.request_sha256 != sha256:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"job {job_id} exists with another body: repeat that body to get the same "
            "job, or use another Idempotency-Key (or job_id)",
            kind="conflict",
        )
    return Accepted(job, existed=True)


@asynccontextmanager
async def _confirmed(otherwise: str) -> AsyncIterator[None]:
    """Bounds a call to Kafka. Raises ProblemError (503), which says `otherwise` if it fails."""
    try:
        async with asyncio.timeout(KAFKA_TIMEOUT_S):
            yield
    except NotConnectedError as error:
        raise unavailable("the gateway is starting; /readyz says what it waits for") from error
    except (KafkaError, TimeoutError) as error:
        raise unavailable(otherwise) from error


def parse(body: bytes) -> JobRequest:
    """Raises ProblemError: 400 when it is no JSON, 422 when it is no job."""
    try:
        return read_document(JobRequest, body)
    except InvalidDocumentError as invalid:
        error = invalid.error
        if error.code == "invalid_json":
            raise ProblemError(HTTPStatus.BAD_REQUEST, error.message) from invalid
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            error.message,
            kind=error.code,
            errors=invalid.faults,
        ) from invalid


def _invalid(field: str, message: str) -> ProblemError:
    return unprocessable(Fault(field, message), kind="invalid_request")
