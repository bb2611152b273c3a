"""A gateway process while Kafka and Postgres start, stop and return, and while it is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from niyama import JobRequest, KafkaSettings, Producer
from niyama.local.kafka import LocalKafka
from niyama.local.ports import LOOPBACK, free_port
from niyama.local.postgres import LocalPostgres
from tests.support.records import JOB_DOCUMENT

NIYAMA = Path(sys.executable).with_name("niyama")


class GatewayProcess:
    """`niyama gateway` on a port of its own."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.AsyncClient(
            base_url=f"http://{LOOPBACK}:{environment['NIYAMA_API_PORT']}", timeout=90
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [NIYAMA, "gateway"], env=os.environ | self._environment, stderr=log
            )

    @property
    def messages(self) -> str:
        return self._log.read_text()

    async def until_ready(self) -> None:
        await self.until(lambda parts: set(parts.values()) == {"ready"})

    async def until(self, wanted: Callable[[dict[str, str]], bool]) -> None:
        """Return once the parts that `/readyz` lists are as `wanted`."""
        async with asyncio.timeout(120):
            while True:
                try:
                    parts = (await self.client.get("/readyz")).json()["parts"]
                except httpx.TransportError:
                    parts = {}
                if parts and wanted(parts):
                    return
                await asyncio.sleep(0.1)

    async def begin(self, path: str, **query: object) -> "asyncio.Task[httpx.Response]":
        """A request that the gateway is at."""
        sent = asyncio.Event()

        async def trace(name: str, _: object) -> None:
            if name == "http11.send_request_body.complete":
                sent.set()

        getting = self.client.get(path, params=query, extensions={"trace": trace})
        task = asyncio.create_task(getting)
        async with asyncio.timeout(120):
            await sent.wait()
            await self.client.get("/healthz")  # which came after it
        return task

    async def ids(self) -> set[str]:
        page = (await self.client.get("/v1/jobs", params={"limit": 1000})).json()
        return {job["job_id"] for job in page["jobs"]}

    async def until_known(self, job_ids: set[str]) -> None:
        async with asyncio.timeout(120):
            while not job_ids <= await self.ids():
                await asyncio.sleep(0.1)

    async def until_logged(self, *words: str) -> None:
        """Return once a line of the log has all `words`."""
        async with asyncio.timeout(120):
            while not any(
                all(word in line for word in words) for line in self.messages.splitlines()
            ):
                await asyncio.sleep(0.1)

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.to_thread(self._process.wait, 120)

    async def close(self) -> None:
        await self.client.aclose()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
async def own_postgres(folder: Path) -> AsyncIterator[LocalPostgres]:
    """A Postgres of the test's own, to be stopped and started. Migrated, and stopped."""
    postgres = LocalPostgres(folder / "postgres", durable=False)
    await postgres.start()
    environment = os.environ | {"NIYAMA_DATABASE_URL": postgres.url()}
    subprocess.run([NIYAMA, "migrate"], env=environment, check=True, capture_output=True)
    await postgres.stop()
    yield postgres
    await postgres.stop()


@pytest.fixture
async def own_kafka(folder: Path) -> AsyncIterator[LocalKafka]:
    """A Kafka of the test's own, to be stopped and started. Not running."""
    kafka = LocalKafka(folder / "kafka", port=free_port())
    yield kafka
    await kafka.stop()


@pytest.fixture
async def gateway(
    folder: Path, own_kafka: LocalKafka, own_postgres: LocalPostgres
) -> AsyncIterator[GatewayProcess]:
    """A gateway, not running, on `own_kafka` and `own_postgres`."""
    environment = {
        "NIYAMA_KAFKA_BOOTSTRAP": own_kafka.bootstrap,
        "NIYAMA_DATABASE_URL": own_postgres.url(),
        "NIYAMA_API_PORT": str(free_port()),
        "NIYAMA_TOPIC_PARTITIONS": "2",
    }
    gateway = GatewayProcess(environment, folder / "gateway.log")
    yield gateway
    await gateway.close()


async def publish(bootstrap: str, count: int, pause_s: float = 0) -> set[str]:
    """Publish `count` jobs straight to Kafka. Returns their ids."""
    published = set()
    async with Producer(KafkaSettings(kafka_bootstrap=bootstrap)) as producer:
        for _ in range(count):
            acknowledged = await producer.publish(JobRequest.model_validate(JOB_DOCUMENT))
            published.add(str(acknowledged.job_id))
            await asyncio.sleep(pause_s)
    return published


async def test_a_gateway_that_starts_first_waits_for_kafka_and_postgres(
    gateway: GatewayProcess, own_kafka: LocalKafka, own_postgres: LocalPostgres
) -> None:
    gateway.start()
    await gateway.until(lambda parts: parts["kafka"] == parts["postgres"] == "does not answer")
    alive = await gateway.client.get("/healthz")
    too_early = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    await own_kafka.start()
    await gateway.until(lambda parts: parts["kafka"] == "ready")
    without_postgres = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    balanced = {"exclude": ["postgres", "ledger"]}
    takes_jobs = await gateway.client.get("/readyz", params=balanced)
    unknown = await gateway.client.get(without_postgres.headers["location"])
    await own_postgres.start()
    await gateway.until_ready()
    await gateway.until_known({without_postgres.json()["job_id"]})
    in_time = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    followed = in_time.headers["location"]
    waiting = await gateway.begin(followed, wait=60)
    status = await asyncio.wait_for(gateway.end(signal.SIGTERM), 45)

    assert (await waiting).json()["status"] == "queued"  # answered early, because of the end
    assert (alive.status_code, too_early.status_code, in_time.status_code) == (200, 503, 202)
    assert (without_postgres.status_code, takes_jobs.status_code) == (202, 200)
    assert unknown.status_code == 503
    assert "waiting for Kafka" in gateway.messages
    assert "waiting for Postgres" in gateway.messages
    assert "Traceback" not in gateway.messages
    assert status == 0


async def set_read_only(postgres: LocalPostgres, value: str) -> None:
    connection = await asyncpg.connect(postgres.url())
    await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def test_a_gateway_waits_for_a_postgres_that_is_read_only(
    gateway: GatewayProcess, own_kafka: LocalKafka, own_postgres: LocalPostgres
) -> None:
    await asyncio.gather(own_kafka.start(), own_postgres.start())
    await set_read_only(own_postgres, "on")
    gateway.start()
    await gateway.until(lambda parts: (parts["kafka"], parts["postgres"]) == ("ready", "ready"))
    before = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    await set_read_only(own_postgres, "off")
    await gateway.until_known({before.json()["job_id"]})

    await set_read_only(own_postgres, "on")
    jobs = await publish(own_kafka.bootstrap, 20)
    await gateway.until_logged("read-only transaction", "the ledger waits")
    await set_read_only(own_postgres, "off")
    await gateway.until_known(jobs)
    status = await gateway.end(signal.SIGTERM)

    assert status == 0
    assert "Traceback" not in gateway.messages


async def test_sigterm_ends_a_gateway_that_still_waits(gateway: GatewayProcess) -> None:
    gateway.start()
    await gateway.until(lambda parts: parts["kafka"] == "does not answer")

    assert await gateway.end(signal.SIGTERM) == 0


async def test_postgres_and_kafka_go_and_come_back_and_nothing_is_lost(
    gateway: GatewayProcess, own_kafka: LocalKafka, own_postgres: LocalPostgres
) -> None:
    await asyncio.gather(own_kafka.start(), own_postgres.start())
    gateway.start()
    await gateway.until_ready()

    await own_postgres.stop()
    await gateway.until(lambda parts: parts["postgres"] != "ready")
    accepted = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    unknown = await gateway.client.get("/v1/jobs")
    jobs = await publish(own_kafka.bootstrap, 50, pause_s=0.05)
    await own_postgres.start()
    await gateway.until_ready()
    await gateway.until_known(jobs | {accepted.json()["job_id"]})

    await own_kafka.stop()
    await gateway.until(lambda parts: parts["kafka"] != "ready")
    refused = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    known = await gateway.client.get(f"/v1/jobs/{next(iter(jobs))}")
    await own_kafka.start()
    await gateway.until_ready()
    jobs = await publish(own_kafka.bootstrap, 50)
    await gateway.until_known(jobs)
    again = await gateway.client.post("/v1/jobs", json=JOB_DOCUMENT)
    await gateway.until_known({again.json()["job_id"]})
    status = await gateway.end(signal.SIGTERM)

    assert (accepted.status_code, unknown.status_code) == (202, 503)
    assert (refused.status_code, known.status_code, again.status_code) == (503, 200, 202)
    assert status == 0


async def test_a_gateway_that_is_killed_loses_nothing_and_repeats_nothing(
    gateway: GatewayProcess, own_kafka: LocalKafka, own_postgres: LocalPostgres
) -> None:
    await asyncio.gather(own_kafka.start(), own_postgres.start())
    gateway.start()
    await gateway.until_ready()
    publishing = asyncio.create_task(publish(own_kafka.bootstrap, 300, pause_s=0.01))
    await asyncio.sleep(1)
    await gateway.end(signal.SIGKILL)
    accepted = await publishing

    gateway.start()
    await gateway.until_ready()
    await gateway.until_known(accepted)

    assert await gateway.ids() == accepted
