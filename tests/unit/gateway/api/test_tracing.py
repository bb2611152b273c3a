"""Requests that submit jobs are spans; those that ask how a job is doing are not."""

import asyncio
from typing import Any

import httpx
import pytest
from opentelemetry.trace import SpanKind, format_span_id

from gateway.api.app import create_app
from gateway.api.followers import Followers
from gateway.api.health import Health
from gateway.api.services import Services
from gateway.api.submissions import Submissions
from gateway.api.tracing import trace_requests
from gateway.ledger.queries import Ledger
from gateway.settings import GatewaySettings
from niyama import Producer
from schemas.headers import Headers
from tests.support.metrics import metrics
from tests.support.records import JOB_DOCUMENT, TRACEPARENT
from tests.support.spans import KeptSpans


class Record:
    """Where Kafka has put a job."""

    topic, partition, offset = "jobs", 1, 2


class FakeKafka:
    """Takes every record."""

    def __init__(self) -> None:
        self.headers: list[Headers] = []

    async def send(self, *_: object, headers: Headers, **__: object) -> Record:
        self.headers.append(headers)
        return Record()


class EmptyLedger(Ledger):
    def __init__(self) -> None:
        """Without a database."""

    async def record(self, job_id: object) -> None:
        return None


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


def client(kafka: FakeKafka, spans: KeptSpans | None) -> httpx.AsyncClient:
    provider = spans.provider if spans else None
    producer = Producer(tracer_provider=provider)
    producer._entered = kafka  # type: ignore[assignment]
    ledger = EmptyLedger()
    submissions = Submissions(GatewaySettings(), producer, ledger)
    followers = Followers(ledger.not_open, submissions.is_recent, asyncio.Event(), readers=1)
    app = create_app(Services(Health({}), ledger, submissions, followers, metrics()))
    if provider is not None:
        trace_requests(app, provider)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


def parent_of(headers: Headers) -> str:
    return dict(headers)["traceparent"].decode().split("-")[2]


async def test_a_job_is_sent_within_the_request_that_submits_it(kafka: FakeKafka) -> None:
    spans = KeptSpans()

    async with client(kafka, spans) as api:
        await api.post("/v1/jobs", json=JOB_DOCUMENT, headers={"traceparent": TRACEPARENT.decode()})

    send, request = spans.all
    assert (request.name, request.kind) == ("POST /v1/jobs", SpanKind.SERVER)
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == parent_of([("traceparent", TRACEPARENT)])
    assert send.parent == request.context
    assert parent_of(kafka.headers[0]) == format_span_id(send.context.span_id)


@pytest.mark.parametrize("path", ["/v1/jobs/00000000-0000-0000-0000-000000000001", "/healthz"])
async def test_what_is_polled_is_no_span(kafka: FakeKafka, path: str) -> None:
    spans = KeptSpans()

    async with client(kafka, spans) as api:
        await api.get(path)

    assert not spans.all


async def test_without_tracing_the_context_of_the_client_is_passed_on(kafka: FakeKafka) -> None:
    headers: dict[str, Any] = {"traceparent": TRACEPARENT.decode()}

    async with client(kafka, None) as api:
        await api.post("/v1/jobs", json=JOB_DOCUMENT, headers=headers)

    assert parent_of(kafka.headers[0]) == parent_of([("traceparent", TRACEPARENT)])
