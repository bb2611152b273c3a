"""What Niyama itself costs: the whole pipeline with a null engine in the place of SGLang.

Everything else is real, on the same machine: Kafka, Postgres, gateway, worker, and the producer
that publishes. `python -m tests.benchmarks.pipeline`
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import UUID

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
SLOWEST_PERCENT = 2
MODEL = "null"

Breakdown = Mapping[str, float]
"""Seconds by part, in order."""


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


async def throughput(
    stack: LocalStack, round_number: int, jobs: int = THROUGHPUT_JOBS
) -> Throughput:
    """Publish as fast as Kafka takes it; done when the last job is a completed row."""
    tenant = f"throughput-{round_number}"
    ledger = await asyncpg.connect(stack.database_url)
    settings = KafkaSettings(kafka_bootstrap=stack.kafka_bootstrap)
    start_s = time.perf_counter()
    async with Producer(settings, linger_ms=5) as producer:
        left = iter(range(jobs))

        async def publish() -> None:
            for _ in left:
                await producer.publish(job(tenant))

        await asyncio.gather(*(publish() for _ in range(IN_FLIGHT)))
        published_s = time.perf_counter() - start_s
    while await _completed(ledger, tenant) < jobs:
        await asyncio.sleep(0.1)
    completed_s = time.perf_counter() - start_s
    await ledger.close()
    return Throughput(published_s, completed_s, jobs)


async def _completed(ledger: "asyncpg.Connection[asyncpg.Record]", tenant: str) -> int:
    query = "SELECT count(*) FROM jobs WHERE tenant = $1 AND status = 'completed'"
    count: int = await ledger.fetchval(query, tenant)
    return count


@dataclass(frozen=True, slots=True)
class Seen:
    """A job whose first event the status API has shown; UTC epoch seconds, of this machine."""

    job_id: UUID
    start_s: float
    """Before it was published."""
    asked_s: float
    """Before the request whose answer had the event."""
    seen_s: float

    @property
    def latency_s(self) -> float:
        return self.seen_s - self.start_s


async def visibility(stack: LocalStack) -> list[Seen]:
    """From before the publication to the first event in the status API, of a sample of jobs."""
    settings = KafkaSettings(kafka_bootstrap=stack.kafka_bootstrap)
    seen: list[Seen] = []
    async with (
        Producer(settings) as producer,
        aiohttp.ClientSession(stack.api_url) as api,  # it costs this process least
        asyncio.TaskGroup() as tasks,
    ):
        start_s = time.perf_counter()
        for number in range(LATENCY_RATE * (WARM_UP_SECONDS + LATENCY_SECONDS)):
            await asyncio.sleep(start_s + number / LATENCY_RATE - time.perf_counter())
            if number == LATENCY_RATE * WARM_UP_SECONDS:
                seen.clear()
            if number % SAMPLE_EVERY:
                tasks.create_task(producer.publish(job("visibility")))
            else:
                tasks.create_task(_sample(producer, api, seen))
    return seen


async def _sample(producer: Producer, api: aiohttp.ClientSession, seen: list[Seen]) -> None:
    start_s = time.time()
    acknowledged = await producer.publish(job("visibility"))
    while True:
        asked_s = time.time()
        async with api.get(f"/v1/jobs/{acknowledged.job_id}") as answer:
            if answer.status == HTTPStatus.OK and (await answer.json())["events"]:
                seen.append(Seen(acknowledged.job_id, start_s, asked_s, time.time()))
                return
        await asyncio.sleep(POLL_INTERVAL_S)


async def breakdowns(stack: LocalStack, seen: Sequence[Seen]) -> list[Breakdown]:
    """Where the time of each of these jobs went, until its first event was shown."""
    async with aiohttp.ClientSession(stack.api_url) as api:
        found = []
        for each in seen:
            async with api.get(f"/v1/jobs/{each.job_id}", params={"wait": 30}) as answer:
                found.append(breakdown(each, await answer.json()))
    return found


def breakdown(seen: Seen, shown: Mapping[str, Any]) -> Breakdown:
    """The parts, in seconds, of what `seen` took; `shown` is the job in the status API at its end.

    They are the job's own up to its first event, and follow that to the API. They sum up to
    the whole: the clock is one, and each part ends where the next one begins.
    """
    arrived_s, event_s = (
        datetime.fromisoformat(at).timestamp()
        for at in (shown["arrived_at"], shown["events"][0]["at"])
    )
    times = shown["times"]["until_first_token"] or shown["times"]["until_end"]
    to_worker_s = (times["publish_s"] or 0.0) + (times["queue_s"] or 0.0)
    return {
        "producer, until it sends the record": arrived_s - seen.start_s,
        "Kafka, until a worker has read it": to_worker_s,
        "worker, until its first event": event_s - arrived_s - to_worker_s,
        "Kafka and ledger, until it is in Postgres": seen.asked_s - event_s,
        "API, its answer": seen.seen_s - seen.asked_s,
    }


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
            seen = await visibility(stack)
            parts = await breakdowns(stack, seen)
            memory = {part: resident_mb(stack, part) for part in ("gateway", "worker")}
    report(rounds, [each.latency_s for each in seen], memory)
    report_breakdown(seen, parts)


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


def report_breakdown(seen: Sequence[Seen], parts: Sequence[Breakdown]) -> None:
    """Percentiles say how each part is by itself, the last two columns what makes up the whole."""
    slow_s = percentile([each.latency_s for each in seen], 100 - SLOWEST_PERCENT)
    slowest = [made for each, made in zip(seen, parts, strict=True) if each.latency_s >= slow_s]
    rows = []
    for name in parts[0]:
        values = [made[name] for made in parts]
        figures = [percentile(values, 50), percentile(values, 99), mean(values)]
        figures.append(mean([made[name] for made in slowest]))
        rows.append([name, *map(milliseconds, figures)])
    show(
        "Where the time to the first event goes",
        ["", "p50", "p99", "mean", f"mean of the slowest {SLOWEST_PERCENT}%"],
        rows,
    )


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    asyncio.run(main())
