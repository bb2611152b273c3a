"""Every field of a job, from each door to the engine and to the status API.

A field that the contract gains fails here until somebody has said what becomes of it.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

import niyama
from gateway.api import views
from gateway.api.app import create_app
from gateway.api.followers import Followers
from gateway.api.health import Health
from gateway.api.services import Services
from gateway.api.submissions import Submissions
from gateway.ledger import queries
from gateway.ledger.job import Job as LedgerJob
from gateway.ledger.records import RecordDecoder, Submission
from gateway.settings import GatewaySettings
from niyama import EncodedJob, JobAcknowledgement
from schemas import JobRequest, Kind, QosCatalog
from schemas.decode import decode_job
from schemas.job import SamplingParameters
from tests.support.job_documents import job_documents
from tests.support.metrics import metrics
from tests.support.records import TOPICS, FakeRecord
from workers.engine.port import GenerationRequest
from workers.execution.engine_request import generation_request
from workers.intake.admission import Admission
from workers.job import Job
from workers.policy.custom_params import from_custom_params, to_custom_params
from workers.policy.qos import Task

REPLY_TOPIC = "niyama-replies.contract"
CATALOG = QosCatalog.load(None)
ARRIVED_MS = 1_763_717_400_000

generated = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)


class Producer(niyama.Producer):
    """Keeps what the gateway would publish."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[EncodedJob] = []

    async def send(self, encoded: EncodedJob, **_: Any) -> JobAcknowledgement:
        self.sent.append(encoded)
        arrived_at = datetime.fromtimestamp(ARRIVED_MS / 1000, UTC)
        return JobAcknowledgement(encoded.job_id, arrived_at, encoded.topic, 0, 0)


class EmptyLedger(queries.Ledger):
    def __init__(self) -> None:
        pass

    async def job(self, job_id: UUID) -> None:
        return None


def through_the_client_library(document: dict[str, Any]) -> bytes:
    return niyama.Producer().encode(JobRequest.model_validate(document)).value


def through_http(document: dict[str, Any]) -> bytes:
    async def submit() -> bytes:
        producer, ledger = Producer(), EmptyLedger()
        submissions = Submissions(GatewaySettings(), producer, ledger)
        followers = Followers(ledger.not_open, submissions.is_recent, asyncio.Event(), readers=1)
        app = create_app(Services(Health({}), ledger, submissions, followers, metrics()))
        async with httpx.AsyncClient(
            base_url="http://gateway", transport=httpx.ASGITransport(app)
        ) as client:
            answer = await client.post("/v1/jobs", json=document)
        assert answer.status_code == 202, answer.text
        return producer.sent[0].value

    return asyncio.run(submit())


def through_kafka(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


DOORS = [through_the_client_library, through_http, through_kafka]


def _admitted(value: bytes) -> Job:
    record = FakeRecord(value, timestamp=ARRIVED_MS)
    model = json.loads(value)["model"]
    job = Admission(model, CATALOG).admit(record, now_s=ARRIVED_MS / 1000 + 1)
    assert isinstance(job, Job), job
    return job


def _of_qos(name: str) -> Callable[[GenerationRequest], Any]:
    return attrgetter(f"qos.{name}")


def _expiry_s(request: GenerationRequest) -> float | None:
    expires_s = request.qos.expires_s
    return None if expires_s is None else round(expires_s - request.qos.arrival_s, 3)


ENGINE_GETS: dict[str, Callable[[GenerationRequest], Any]] = {
    "messages": attrgetter("messages"),
    "prompt": attrgetter("prompt"),
    "input_ids": attrgetter("input_ids"),
    "stream": attrgetter("stream"),
    "importance": _of_qos("importance"),
    "tenant": _of_qos("tenant"),
    "application": lambda request: request.qos.application or None,
    "expire_after_s": _expiry_s,
    **{
        name: lambda request, name=name: request.sampling.get(name)
        for name in SamplingParameters.model_fields
    },
}
ENGINE_DOES_NOT_GET = {
    "schema_version": "read when the record is decoded",
    "job_id": "request ids are made from it, one for each attempt",
    "model": "a pool serves one model: any other is refused",
    "qos": "resolved to times: test_the_engine_gets_the_targets",
    "reply_topic": "the gateway's",
    "metadata": "the client's own",
}

API_SHOWS: dict[str, Callable[[views.JobSummary], Any]] = {
    "job_id": attrgetter("job_id"),
    "model": attrgetter("model"),
    "tenant": attrgetter("tenant"),
    "application": attrgetter("application"),
    "importance": attrgetter("importance"),
    "expire_after_s": attrgetter("expire_after_s"),
    "metadata": attrgetter("metadata"),
}
API_DOES_NOT_SHOW = {
    "schema_version": "the API has a version of its own",
    "qos": "shown as targets: test_the_api_shows_the_targets",
    "messages": "prompts stay in Kafka: the ledger has none",
    "prompt": "likewise",
    "input_ids": "likewise",
    "stream": "kept by the ledger; it is about Kafka's tokens topic",
    "reply_topic": "kept by the ledger; the reply's state is shown, not its address",
    **dict.fromkeys(SamplingParameters.model_fields, "how to sample concerns the engine"),
}


def test_it_is_said_of_every_field_where_it_goes() -> None:
    fields = set(JobRequest.model_fields)
    assert {*ENGINE_GETS, *ENGINE_DOES_NOT_GET} == fields
    assert not ENGINE_GETS.keys() & ENGINE_DOES_NOT_GET.keys()
    assert {*API_SHOWS, *API_DOES_NOT_SHOW} == fields
    assert not API_SHOWS.keys() & API_DOES_NOT_SHOW.keys()


@pytest.mark.parametrize("door", DOORS)
@generated
@given(document=job_documents())
def test_every_door_gives_the_same_job(
    door: Callable[[dict[str, Any]], bytes], document: dict[str, Any]
) -> None:
    document |= {"reply_topic": REPLY_TOPIC, "job_id": str(uuid4())}
    assert decode_job(door(document)) == JobRequest.model_validate(document)


@generated
@given(document=job_documents())
def test_the_engine_gets_every_field_that_concerns_it(document: dict[str, Any]) -> None:
    job = _admitted(through_kafka(document))
    request = generation_request(job, "request")
    wanted = job.request.model_dump(by_alias=True, exclude_none=True)
    for name, found_in in ENGINE_GETS.items():
        expected = wanted.get(name)
        if name == "expire_after_s" and expected is not None:
            expected = round(expected, 3)
        assert found_in(request) == expected, name


@pytest.mark.parametrize(
    ("qos", "targets"),
    [
        ({"ttft_ms": 500, "tbt_ms": 50}, (0.5, 0.05)),
        ({"ttlt_s": 60}, (60.0, None)),
        ({"ttlt_ms": 8000}, (8.0, None)),
        ("batch-1h", (3600.0, None)),
    ],
)
def test_the_engine_gets_the_targets(qos: Any, targets: tuple[float, float | None]) -> None:
    job = _admitted(json.dumps({"model": "m", "prompt": "p", "qos": qos}).encode())
    until_deadline_s, tbt_s = targets
    assert job.qos.arrival_s == ARRIVED_MS / 1000
    assert job.qos.deadline_s == ARRIVED_MS / 1000 + until_deadline_s
    assert job.qos.limits_gaps == (tbt_s is not None)
    assert tbt_s is None or job.qos.tbt_s == tbt_s


def test_the_engine_gets_the_task() -> None:
    task = {"id": "trip", "deadline": "2126-11-22T10:00:00Z", "call": 2, "calls_left": 3}
    document = {"model": "m", "prompt": "p", "qos": {"task": task}}
    qos = _admitted(json.dumps(document).encode()).qos
    deadline_s = datetime(2126, 11, 22, 10, tzinfo=UTC).timestamp()
    assert (qos.task, qos.deadline_s) == (Task("trip", 2, 3), deadline_s)
    assert from_custom_params(to_custom_params(qos), received_s=0.0) == qos


@generated
@given(document=job_documents())
def test_the_status_api_shows_every_field_that_concerns_it(document: dict[str, Any]) -> None:
    document |= {"job_id": str(uuid4())}
    shown, job = _shown(through_kafka(document)), JobRequest.model_validate(document)
    for name, found_in in API_SHOWS.items():
        assert found_in(shown) == _stored(getattr(job, name)), name


def _stored(value: Any) -> Any:
    """As Postgres has it, which cannot store NUL characters."""
    if isinstance(value, dict):
        return {_stored(key): _stored(each) for key, each in value.items()}
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def test_the_api_shows_the_targets() -> None:
    fields = {"model": "m", "prompt": "p", "job_id": str(uuid4())}
    chat = _shown(json.dumps(fields | {"qos": {"ttft_ms": 500, "tbt_ms": 4.1}}).encode()).qos
    batch = _shown(json.dumps(fields | {"qos": "batch-1h"}).encode()).qos
    assert chat == views.QosView(kind=Kind.INTERACTIVE, ttft_ms=500, tbt_ms=4.1)
    assert batch == views.QosView(name="batch-1h", kind=Kind.BATCH, ttlt_s=3600)


def test_the_api_shows_a_deadline_and_a_task() -> None:
    fields = {"model": "m", "prompt": "p", "job_id": str(uuid4())}
    task = {"id": "trip", "deadline": "2126-11-22T10:00:00Z", "calls_left": 3}
    tool = _shown(json.dumps(fields | {"qos": {"ttlt_ms": 8000}}).encode())
    call = _shown(json.dumps(fields | {"qos": {"task": task}}).encode())
    due_at = datetime(2126, 11, 22, 10, tzinfo=UTC)
    assert tool.qos == views.QosView(kind=Kind.DEADLINE, ttlt_ms=8000)
    assert call.qos == views.QosView(
        kind=Kind.TASK, task=views.TaskView(id="trip", deadline=due_at, calls_left=3)
    )
    assert call.deadlines == views.DeadlinesView(last_token_at=due_at)
    assert call.deadlines_met.ttlt is None


def _shown(value: bytes) -> views.JobSummary:
    entry = RecordDecoder(TOPICS, CATALOG, "default").decode(
        FakeRecord(value, timestamp=ARRIVED_MS)
    )
    assert isinstance(entry, Submission)
    return views.summary(LedgerJob(entry.job_id, entry.request), datetime.now(UTC))
