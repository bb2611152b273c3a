"""The HTTP API's errors and its OpenAPI document. Kafka and the ledger are fakes here."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import jsonschema
import pytest
from aiokafka.errors import KafkaConnectionError

import niyama
from gateway.api import health, submissions
from gateway.api.app import create_app
from gateway.api.followers import Followers
from gateway.api.health import Health
from gateway.api.services import Services
from gateway.api.submissions import Submissions
from gateway.ledger import queries
from gateway.settings import GatewaySettings
from niyama import EncodedJob, JobAcknowledgement, NotConnectedError
from schemas import JobRequest
from tests.support.loads import load_report
from tests.support.metrics import metrics, numbers
from tests.support.records import JOB_DOCUMENT

PROBLEM = "application/problem+json"
UNKNOWN = UUID(int=1)


class Ledger(queries.Ledger):
    """An empty ledger, or one whose database went away."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def record(self, job_id: UUID) -> None:
        await self.job(job_id)

    async def job(self, job_id: UUID) -> None:
        if self.error is not None:
            raise self.error

    async def idempotency_secret(self) -> bytes:
        await self.job(uuid4())
        return b"secret"


class Producer(niyama.Producer):
    """A Kafka that refuses, or that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    async def send(self, encoded: EncodedJob, **_: Any) -> JobAcknowledgement:
        await self.cancel(encoded.job_id)
        raise AssertionError("unreachable")

    async def cancel(self, job_id: UUID, reason: str | None = None) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def services(ledger: Ledger, producer: Producer) -> Services:
    async def missing() -> str:
        return "does not answer"

    settings = GatewaySettings(model="m")
    submissions = Submissions(settings, producer, ledger)
    followers = Followers(ledger.not_open, submissions.is_recent, asyncio.Event(), readers=1)
    return Services(Health({"kafka": missing}), ledger, submissions, followers, metrics())


@pytest.fixture
async def api(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(base_url="http://gateway", transport=transport) as client:
        yield client


@pytest.mark.parametrize(
    ("job", "status", "words"),
    [
        ({}, 422, ["model: Field required", "qos: Field required"]),
        (JOB_DOCUMENT | {"qos": "no-such"}, 422, ["unknown QoS class", "batch-1h"]),
        (JOB_DOCUMENT | {"max_tokens": 0}, 422, ["max_tokens", "greater than or equal to 1"]),
        (JOB_DOCUMENT | {"max_tokens": 10**9}, 422, ["max_tokens", "less than or equal to"]),
        (JOB_DOCUMENT | {"input_ids": [1]}, 422, ["exactly one of messages, prompt and input_ids"]),
        (JOB_DOCUMENT | {"colour": "red"}, 422, ["colour: Extra inputs are not permitted"]),
        (JOB_DOCUMENT | {"model": "other"}, 422, ["this pool serves 'm'"]),
        (JOB_DOCUMENT | {"schema_version": 7}, 422, ["schema_version 7 is not known; use 1"]),
        (JOB_DOCUMENT | {"reply_topic": "mine"}, 422, ["reply_topic: ", "niyama-replies.*"]),
        (JOB_DOCUMENT | {"reply_topic": "__consumer_offsets"}, 422, ["reply_topic: ", "Kafka's"]),
        (JOB_DOCUMENT | {"reply_topic": "niyama.control"}, 422, ["reply_topic: ", "Niyama's own"]),
        (b"{", 400, ["not valid JSON"]),
        (b"\xff\xfe{}", 400, ["not valid JSON"]),
        (b"", 400, ["not valid JSON"]),
        (JOB_DOCUMENT | {"prompt": "x" * 1_100_000}, 413, ["larger than 1,048,576 bytes"]),
    ],
)
async def test_bad_jobs_are_answered_with_what_to_change(
    api: httpx.AsyncClient, job: Any, status: int, words: list[str]
) -> None:
    body = job if isinstance(job, bytes) else json.dumps(job).encode()

    answer = await api.post("/v1/jobs", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["status"] == status
    for word in words:
        assert word in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", f"/v1/jobs/{UNKNOWN}", 404, "no job"),
        ("DELETE", f"/v1/jobs/{UNKNOWN}", 404, "no job"),
        ("GET", "/v1/jobs/not-an-id", 422, "job_id"),
        ("PUT", "/v1/jobs", 405, "GET, POST"),
        ("PATCH", f"/v1/jobs/{UNKNOWN}", 405, "DELETE, GET"),
        ("GET", "/v1/nothing", 404, "/openapi.json"),
        ("GET", "/v1/jobs?limit=0", 422, "limit"),
        ("GET", "/v1/jobs?status=lost", 422, "status: Input should be 'queued', 'admitted'"),
        ("GET", "/v1/jobs?tenant=%00", 422, "tenant"),
        ("GET", "/v1/jobs?cursor=abc", 422, "next_cursor"),
        ("GET", f"/v1/jobs/{UNKNOWN}?wait=61", 422, "wait"),
        ("POST", "/v1/jobs", 415, "application/json"),
    ],
)
async def test_every_error_is_a_problem_document(
    api: httpx.AsyncClient, method: str, path: str, status: int, words: str
) -> None:
    headers = {"content-type": "text/plain"} if status == 415 else {}

    answer = await api.request(method, path, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), None])
async def test_without_kafka_a_job_can_be_sent_again_later(
    api: httpx.AsyncClient,
    producer: Producer,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    monkeypatch.setattr(submissions, "KAFKA_TIMEOUT_S", 0.01)
    producer.error = error

    answer = await api.post("/v1/jobs", json=JOB_DOCUMENT)

    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert int(answer.headers["retry-after"]) > 0
    assert "same Idempotency-Key" in answer.json()["detail"]


async def test_without_its_database_the_ledger_answers_later(
    api: httpx.AsyncClient, ledger: Ledger
) -> None:
    ledger.error = ConnectionRefusedError("gone")

    answer = await api.get(f"/v1/jobs/{uuid4()}")
    submitted = await api.post("/v1/jobs", json=JOB_DOCUMENT, headers={"Idempotency-Key": "k"})

    for each in (answer, submitted):
        assert (each.status_code, each.headers["content-type"]) == (503, PROBLEM)
        assert "database does not answer" in each.json()["detail"]


async def test_while_it_starts_the_gateway_says_so(
    api: httpx.AsyncClient, producer: Producer
) -> None:
    producer.error = NotConnectedError()

    answer = await api.post("/v1/jobs", json=JOB_DOCUMENT)

    assert answer.status_code == 503
    assert "/readyz" in answer.json()["detail"]
    assert (await api.get("/healthz")).json() == {"status": "alive"}


async def test_readiness_names_what_is_missing(api: httpx.AsyncClient) -> None:
    answer = await api.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "parts": {"kafka": "does not answer"}}


async def test_a_load_balancer_leaves_out_parts_that_taking_jobs_does_not_need(
    api: httpx.AsyncClient,
) -> None:
    without = await api.get("/readyz", params={"exclude": "kafka"})
    unknown = await api.get("/readyz", params={"exclude": "disk"})

    assert (without.status_code, without.json()) == (200, {"ready": True, "parts": {}})
    assert unknown.status_code == 422


async def test_a_part_that_hangs_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def works() -> None:
        pass

    readiness = await Health({"kafka": works, "postgres": hang}).readiness()

    assert readiness.parts == {"kafka": "ready", "postgres": "does not answer"}


async def test_a_bug_is_a_problem_document_too(api: httpx.AsyncClient, ledger: Ledger) -> None:
    ledger.error = RuntimeError("secret")

    answer = await api.get(f"/v1/jobs/{uuid4()}")

    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in answer.text


async def test_the_document_describes_every_endpoint(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    assert document["paths"].keys() == {
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/workers",
        "/v1/pools",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert document["paths"]["/v1/jobs/{job_id}"].keys() == {"get", "delete"}
    references = set(_references(document))
    assert {reference.rpartition("/")[2] for reference in references} <= document["components"][
        "schemas"
    ].keys()
    examples = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in examples["examples"].values():
        assert JobRequest.model_validate(example["value"])


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for child in node.values() for found in _references(child)]
    if isinstance(node, list):
        return [found for child in node for found in _references(child)]
    return []


async def test_prometheus_finds_its_metrics(api: httpx.AsyncClient) -> None:
    response = await api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert "target_info{" in response.text


async def test_requests_are_measured_by_route_and_status(
    api: httpx.AsyncClient, services: Services, ledger: Ledger
) -> None:
    await api.get(f"/v1/jobs/{uuid4()}")
    await api.get("/v1/nothing/here")
    await api.request("BREW", "/healthz")
    ledger.error = RuntimeError("a bug")
    await api.get(f"/v1/jobs/{uuid4()}")
    assert numbers(services.metrics.measurements, "http.server.request.duration") == {
        ("GET", "/v1/jobs/{job_id}", "404"): 1,
        ("GET", "/v1/jobs/{job_id}", "500"): 1,
        ("GET", "404"): 1,
        ("_OTHER", "/healthz", "405"): 1,
    }


async def test_workers_and_pools_are_what_the_document_says(
    api: httpx.AsyncClient, services: Services
) -> None:
    services.fleet.heard(b"default/w1", load_report("w1").to_bytes())
    draining = load_report("w2", pool="other", draining=True)
    services.fleet.heard(b"other/w2", draining.to_bytes())
    workers, others, pools, some = (
        (await api.get("/v1/workers")).json(),
        (await api.get("/v1/workers", params={"pool": "other", "state": "draining"})).json(),
        (await api.get("/v1/pools")).json(),
        [
            (await api.get("/v1/pools", params=params)).json()
            for params in ({"pool": "other"}, {"limit": "1"})
        ],
    )
    assert [each["report"]["worker_id"] for each in workers["workers"]] == ["w1", "w2"]
    assert (others["total"], others["workers"][0]["state"]) == (1, "draining")
    assert [(each["pool"], each["serving"]) for each in pools["pools"]] == [
        ("default", 1),
        ("other", 0),
    ]
    shown = [(answer["total"], [each["pool"] for each in answer["pools"]]) for answer in some]
    assert shown == [(1, ["other"]), (2, ["default"])]
    document = (await api.get("/openapi.json")).json()
    for name, answer in (("WorkerList", workers), ("PoolList", pools)):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(answer, schema)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "state=asleep", "pool=%20"])
async def test_a_wrong_question_about_workers_is_answered_with_what_to_change(
    api: httpx.AsyncClient, query: str
) -> None:
    answer = await api.get(f"/v1/workers?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert query.partition("=")[0] in answer.json()["detail"]


async def test_no_request_is_handed_to_a_thread(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a busy process that has to be given its lock again, each time for some milliseconds."""

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plain function is called in a thread")

    monkeypatch.setattr("anyio.to_thread.run_sync", refuse)
    for path in (f"/v1/jobs/{uuid4()}", "/v1/workers", "/healthz"):
        assert (await api.get(path)).status_code < 500
