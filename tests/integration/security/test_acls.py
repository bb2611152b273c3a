"""Each process runs with the ACLs that docs/security.md gives it, and with no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from gateway.bootstrap import build, listen
from gateway.settings import GatewaySettings
from niyama import JobRequest, KafkaSettings, Producer, kafka
from schemas import JobEvent
from tests.support.acls import give_acls
from tests.support.secured_kafka import SecuredKafka
from tests.support.token_endpoint import CLIENT_SECRET, TokenEndpoint, token_endpoint
from tests.support.workers import PATIENCE_S, telemetry_of
from workers.bootstrap import run_worker
from workers.engine.null import NullEngine
from workers.health import Health
from workers.settings import WorkerSettings
from workers.stop import Stop

PRINCIPALS = {
    "producer": "User:producer",  # the subject of its token
    "worker": "User:CN=worker",  # the subject of its certificate
    "gateway": "User:gateway",  # the name of its password
    "reader of replies": "User:producer",
}


@pytest.fixture
def shared(topic_prefix: str, pool: str) -> dict[str, Any]:
    return {"topic_prefix": topic_prefix, "pool": pool, "topic_partitions": 1}


@asynccontextmanager
async def running_worker(settings: WorkerSettings) -> AsyncIterator[None]:
    stop = Stop()
    task = asyncio.create_task(
        run_worker(settings, NullEngine(), Health(engine=True), stop, telemetry_of(settings))
    )
    try:
        yield
    finally:
        stop.request()
        await asyncio.wait_for(task, 60)


@asynccontextmanager
async def running_gateway(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    gateway, listener = build(settings), listen(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(gateway.run(listener))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            yield client
    finally:
        gateway.stop()
        await asyncio.wait_for(task, 60)


def as_producer(endpoint: TokenEndpoint, secured: SecuredKafka, **shared: Any) -> KafkaSettings:
    connection = secured.with_token(
        kafka_oauth_token_url=endpoint.url,
        kafka_oauth_client_id="producer",
        kafka_oauth_client_secret=CLIENT_SECRET,
    )
    return KafkaSettings(**connection, **shared)


async def test_a_job_gets_its_reply_with_the_documented_acls_and_no_others(
    secured_kafka: SecuredKafka, shared: dict[str, Any], database_url: str
) -> None:
    operator = KafkaSettings(kafka_bootstrap=secured_kafka.bootstrap, **shared)
    reply_topic = f"niyama-replies.{operator.topic_prefix}"
    await kafka.ensure_topics(operator, operator.topics.all)
    await kafka.create_missing(operator, [kafka.new_topic(reply_topic, 1, 1)])
    assert await give_acls(operator, PRINCIPALS) > 20
    worker = WorkerSettings(
        **secured_kafka.with_certificate("worker"),
        **shared,
        engine="null",
        model="null",
        sglang_arguments=[],
    )
    gateway = GatewaySettings(
        **secured_kafka.with_password("gateway"), **shared, database_url=database_url, api_port=0
    )
    job = JobRequest(model="null", prompt="p", qos="chat", max_tokens=2, reply_topic=reply_topic)
    with token_endpoint() as endpoint:
        settings = as_producer(endpoint, secured_kafka, **shared)
        async with (
            asyncio.timeout(PATIENCE_S),
            running_gateway(gateway) as api,
            running_worker(worker),
            Producer(settings) as producer,
            kafka.consumer(settings, reply_topic) as replies,
        ):
            published = (await producer.publish(job)).job_id
            await producer.cancel(published)  # too late or not, it is allowed
            first = JobEvent.model_validate_json((await replies.getone()).value)
            assert first.job_id == published
            while (answer := await api.post("/v1/jobs", json=job.model_dump(mode="json"))).is_error:
                await asyncio.sleep(0.1)  # until the gateway is connected
            second = JobEvent.model_validate_json((await replies.getone()).value)
            assert str(second.job_id) == answer.json()["job_id"]
            with pytest.raises(TopicAuthorizationFailedError):
                await producer._kafka.send(settings.topics.events.name, b"a lie")
