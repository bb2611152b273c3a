"""Kafka, then Postgres, is down for twenty seconds under the whole stack, which survives it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import httpx

from niyama import JobRequest, KafkaSettings, Producer
from niyama.local.kafka import LocalKafka
from niyama.local.postgres import LocalPostgres
from niyama.local.stack import LocalStack, StackOptions

OUTAGE_S = 20
JOBS = 60
PATIENCE_S = 240.0
Action = Callable[[], Awaitable[None]]


async def publish_through(outage: Action, bootstrap: str) -> list[UUID]:
    """Publish jobs one after the other; `outage` happens meanwhile."""
    published: list[UUID] = []
    async with Producer(KafkaSettings(kafka_bootstrap=bootstrap)) as producer:

        async def publish_all() -> None:
            for _ in range(JOBS):
                job = JobRequest(model="null", prompt="Hello", qos="chat", max_tokens=4)
                published.append((await producer.publish(job)).job_id)
                await asyncio.sleep(0.05)

        publishing = asyncio.create_task(publish_all())
        async with asyncio.timeout(PATIENCE_S):
            while len(published) < JOBS // 3 and not publishing.done():
                await asyncio.sleep(0.05)
        await outage()
        await publishing
    return published


async def all_completed(api: httpx.AsyncClient, jobs: list[UUID]) -> None:
    """Return once every job is completed in the ledger, which may have to catch up first."""
    async with asyncio.timeout(PATIENCE_S):
        for job_id in jobs:
            while (answer := await api.get(f"/v1/jobs/{job_id}")).status_code != httpx.codes.OK or (
                answer.json()["status"] != "completed"
            ):
                await asyncio.sleep(0.1)


async def test_twenty_seconds_without_kafka_then_without_postgres_lose_nothing(
    folder: Path,
) -> None:
    kafka, postgres = LocalKafka(folder / "kafka"), LocalPostgres(folder / "postgres")

    async def kafka_outage() -> None:
        await kafka.stop()
        await asyncio.sleep(OUTAGE_S)
        await kafka.start()

    async def postgres_outage() -> None:
        await postgres.stop()
        await asyncio.sleep(OUTAGE_S)
        await postgres.start()

    try:
        await asyncio.gather(kafka.start(), postgres.start())
        options = StackOptions(
            state_dir=folder / "stack",
            kafka_bootstrap=kafka.bootstrap,
            database_url=postgres.url(),
            worker_arguments=("--engine", "null", "--model", "null"),
        )
        async with LocalStack(options) as stack:
            pids = {part: stack.pid(part) for part in ("gateway", "worker")}
            async with httpx.AsyncClient(
                base_url=stack.api_url, trust_env=False, timeout=90
            ) as api:
                for outage in (kafka_outage, postgres_outage):
                    await all_completed(api, await publish_through(outage, kafka.bootstrap))
            assert {part: stack.pid(part) for part in pids} == pids  # nobody had to be restarted
    finally:
        await asyncio.gather(kafka.stop(), postgres.stop())
