"""What Niyama itself costs: the whole pipeline with a null engine in the place of SGLang.

Everything else is real, on the same machine: Kafka, Postgres, gateway, worker, and the producer
that publishes. `python -m tests.benchmarks.pipeline`
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import asyncpg
import psutil

from niyama import JobRequest, KafkaSettings, Producer
from niyama.local.stack import LocalStack, StackOptions
from tests.benchmarks.figures import console, milliseconds, percentile, show

THROUGHPUT_JOBS = 20_000
THROUGHPUT_ROUNDS = 3
IN_FLIGHT = 1_000
LATENCY_RATE = 200
LATENCY_SECONDS = 20
WARM_UP_SECONDS = 10
SAMPLE_EVERY = 10
POLL_INTERVAL_S = 0.001
MODEL = "null"


@dataclass(frozen=True, slots=True)
class Throughput:
    published_s: float
    completed_s: float
    jobs: int

    @property
    def jobs_per_s(self) -> float:
        return self.jobs / self.completed_s


def job(tenant: str) -> JobRequest:
    return JobRequest(model=MODEL, prompt="Hello " * 20, qos="chat", max_tokens=8, tenant=tenant)


async def throughput(stack: LocalStack, round_number: int) -> Throughput:
    """Publish as fast as Kafka takes it; done when the last job is a completed row."""
    tenant = f"throughput-{round_number}"
    ledger = await asyncpg.connect(stack.database_url)
    limit = asyncio.Semaphore(IN_FLIGHT)
    settings = KafkaSettings(kafka_bootstrap=stack.kafka_bootstrap)
    start_s = time.perf_counter()
    async with Producer(settings, linger_ms=5) as producer:

        async def publish() -> None:
            async with limit:
                await producer.publish(job(tenant))

        await asyncio.gather(*(publish() for _ in range(THROUGHPUT_JOBS)))
        published_s = time.perf_counter() - start_s
    while await _completed(ledger, tenant) < THROUGHPUT_JOBS:
        await asyncio.sleep(0.1)
    completed_s = time.perf_counter() - start_s
    await ledger.close()
    return Throughput(published_s, completed_s, THROUGHPUT_JOBS)


async def _completed(ledger: "asyncpg.Connection[asyncpg.Record]", tenant: str) -> int:
    query = "SELECT count(*) FROM jobs WHERE tenant = $1 AND status = 'completed'"
    count: int = await ledger.fetchval(query, tenant)
    return count


async def visibility(stack: LocalStack) -> list[float]:
    """Seconds from before the publication to the first event in the status API, of a sample."""
    settings = KafkaSettings(kafka_bootstrap=stack.kafka_bootstrap)
    seen_after_s: list[float] = []
    async with (
        Producer(settings) as producer,
        aiohttp.ClientSession(stack.api_url) as api,  # it costs this process least
        asyncio.TaskGroup() as tasks,
    ):
        start_s = time.perf_counter()
        for number in range(LATENCY_RATE * (WARM_UP_SECONDS + LATENCY_SECONDS)):
            await asyncio.sleep(start_s + number / LATENCY_RATE - time.perf_counter())
            if number == LATENCY_RATE * WARM_UP_SECONDS:
                seen_after_s.clear()
            if number % SAMPLE_EVERY:
                tasks.create_task(producer.publish(job("visibility")))
            else:
                tasks.create_task(_sample(producer, api, seen_after_s))
    return seen_after_s


async def _sample(
    producer: Producer, api: aiohttp.ClientSession, seen_after_s: list[float]
) -> None:
    start_s = time.perf_counter()
    acknowledged = await producer.publish(job("visibility"))
    while True:
        async with api.get(f"/v1/jobs/{acknowledged.job_id}") as answer:
            if answer.status == HTTPStatus.OK and (await answer.json())["events"]:
                seen_after_s.append(time.perf_counter() - start_s)
                return
        await asyncio.sleep(POLL_INTERVAL_S)


def resident_mb(stack: LocalStack, part: str) -> float:
    """Resident memory of one process of the stack, in MB."""
    pid = stack.pid(part)
    assert pid is not None
    return float(psutil.Process(pid).memory_info().rss / 1e6)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as folder:
        Path(folder).chmod(0o755)
        options = StackOptions(
            state_dir=Path(folder), worker_arguments=("--engine", "null", "--model", MODEL)
        )
        async with LocalStack(options) as stack:
            rounds = []
            for number in range(THROUGHPUT_ROUNDS):
                rounds.append(await throughput(stack, number))
                console.print(f"round {number + 1}: {rounds[-1].jobs_per_s:,.0f} jobs/s")
            seen_after_s = await visibility(stack)
            memory = {part: resident_mb(stack, part) for part in ("gateway", "worker")}
    report(rounds, seen_after_s, memory)


def report(rounds: list[Throughput], seen_after_s: list[float], memory: dict[str, float]) -> None:
    middle = sorted(rounds, key=lambda each: each.jobs_per_s)[len(rounds) // 2]
    latency = [milliseconds(percentile(seen_after_s, percent)) for percent in (50, 99)]
    show(
        "Pipeline with a null engine",
        ["", "measured"],
        [
            [
                f"publish to completed row, {THROUGHPUT_JOBS:,} jobs, median of {len(rounds)}",
                f"{middle.jobs_per_s:,.0f} jobs/s",
            ],
            ["  of that, published alone", f"{middle.jobs / middle.published_s:,.0f} jobs/s"],
            [f"publish to first event in the API at {LATENCY_RATE} jobs/s, p50", latency[0]],
            ["  p99", latency[1]],
            ["gateway's memory afterwards", f"{memory['gateway']:.0f} MB"],
            ["worker's memory afterwards, without SGLang", f"{memory['worker']:.0f} MB"],
        ],
    )


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    asyncio.run(main())
