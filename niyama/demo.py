"""`niyama demo`: a mixed workload through the whole stack, and how it went."""

import asyncio
import random
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from niyama.client import Producer
from niyama.command_settings import CommandSettings
from niyama.durations import duration
from niyama.local.stack import LocalStack, StackOptions
from niyama.local.supervisor import Notice
from niyama.report import JobOutcome, outcome_of, table_of
from niyama.settings import KafkaSettings
from schemas import ChatMessage, JobRequest, JobStatus, QosTargets

POLL_INTERVAL_S = 0.5
PAGE_LIMIT = 200
CHAT = QosTargets(ttft_ms=1500, tbt_ms=250)
"""What two cores can keep; the shipped class `chat` is made for GPUs."""


class DemoSettings(CommandSettings):
    """Start the stack in a folder of its own, run a mixed workload, and stop."""

    jobs: int = Field(default=60, ge=3, le=600, description="Number of jobs, a third of each class")
    seconds: float = Field(
        default=30, gt=0, le=600, description="Seconds over which the chats arrive"
    )
    timeout_s: float = Field(
        default=100,
        gt=0,
        description="Give up when jobs have not ended this long after the last one",
    )


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job, and when it is published, in seconds from the start."""

    at_s: float
    request: JobRequest


def main(arguments: list[str]) -> int:
    """Returns 0 when every job completed."""
    settings = DemoSettings.from_command_line(arguments, "niyama demo")
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="niyama-demo-") as folder:
        Path(folder).chmod(0o755)  # Postgres may have to enter it as a user of its own
        outcomes = asyncio.run(_demo(settings, Path(folder), console))
    console.print(table_of(outcomes))
    console.print(_summary(outcomes, settings.jobs))
    return 0 if _completed(outcomes) == settings.jobs else 1


def workload(model: str, tenant: str, count: int, seconds: float) -> list[PlannedJob]:
    """A third each of chats (spread over `seconds`), work due in one minute, and in ten.

    The same every time: lengths and arrivals come from a seeded generator.
    """
    return sorted(_planned(model, tenant, count, seconds), key=lambda job: job.at_s)


def _planned(model: str, tenant: str, count: int, seconds: float) -> Iterator[PlannedJob]:
    choose = random.Random(2503)
    common = {"model": model, "tenant": tenant}
    for number in range(count):
        if number % 3 == 0:
            chat = [ChatMessage(role="user", content=_text(choose, 20, 120))]
            request = JobRequest(messages=chat, qos=CHAT, max_tokens=24, **common)
            yield PlannedJob(choose.uniform(0, seconds), request)
            continue
        minutes = 1 if number % 3 == 1 else 10
        text = _text(choose, 300, 900)
        request = JobRequest(
            prompt=text, qos=QosTargets(ttlt_s=60 * minutes), max_tokens=48, **common
        )
        yield PlannedJob(choose.uniform(0, seconds / 3), request)


def _text(choose: random.Random, shortest: int, longest: int) -> str:
    """Words of `shortest` to `longest` characters in all; the tiny model has a token per byte."""
    words = ["queue", "token", "deadline", "prefill", "slack", "batch", "chunk", "decode"]
    length = choose.randint(shortest, longest)
    return " ".join(choose.choices(words, k=length))[:length]


async def _demo(settings: DemoSettings, folder: Path, console: Console) -> list[JobOutcome]:
    options = StackOptions(state_dir=folder, model=None)
    console.print("Starting Kafka, Postgres, a gateway, and a worker with a tiny model …")
    async with LocalStack(options, notify=lambda notice: _show(console, notice)) as stack:
        tenant = f"demo-{uuid.uuid4().hex[:8]}"
        async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as api:
            return await _run(settings, stack.kafka_bootstrap, tenant, api, console)


async def _run(
    settings: DemoSettings, bootstrap: str, tenant: str, api: httpx.AsyncClient, console: Console
) -> list[JobOutcome]:
    jobs = workload("niyama-tiny", tenant, settings.jobs, settings.seconds)
    publishing = asyncio.create_task(_publish(bootstrap, jobs))
    give_up_s = settings.seconds + settings.timeout_s
    try:
        async with asyncio.timeout(give_up_s):
            await _follow(api, tenant, len(jobs), console)
    except TimeoutError:
        console.print(f"[red]Not all jobs were finished after {duration(give_up_s)}.[/red]")
    finally:
        await publishing
    return await _outcomes(api, tenant)


async def _publish(bootstrap: str, jobs: Sequence[PlannedJob]) -> None:
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    async with Producer(KafkaSettings(kafka_bootstrap=bootstrap)) as producer:
        for job in jobs:
            await asyncio.sleep(start_s + job.at_s - loop.time())
            await producer.publish(job.request)


async def _follow(api: httpx.AsyncClient, tenant: str, count: int, console: Console) -> None:
    """Show progress until every job has ended."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("jobs", total=count)
        while not progress.finished:
            outcomes = await _outcomes(api, tenant)
            running = sum(outcome.status is JobStatus.RUNNING for outcome in outcomes)
            ended = sum(outcome.ended for outcome in outcomes)
            text = f"{len(outcomes)} published, {running} running, ended"
            progress.update(bar, completed=ended, description=text)
            await asyncio.sleep(POLL_INTERVAL_S)


async def _outcomes(api: httpx.AsyncClient, tenant: str) -> list[JobOutcome]:
    found: list[JobOutcome] = []
    query: dict[str, str | int] = {"tenant": tenant, "limit": PAGE_LIMIT}
    while True:
        page = (await api.get("/v1/jobs", params=query)).raise_for_status().json()
        found.extend(map(outcome_of, page["jobs"]))
        if not page.get("next_cursor"):
            return found
        query["cursor"] = page["next_cursor"]


def _show(console: Console, notice: Notice) -> None:
    if notice.state in ("ready", "died"):
        console.print(f"  {notice.part:<9} {notice.state} {notice.detail}", soft_wrap=True)


def _completed(outcomes: Sequence[JobOutcome]) -> int:
    return sum(outcome.status is JobStatus.COMPLETED for outcome in outcomes)


def _summary(outcomes: Sequence[JobOutcome], published: int) -> str:
    """A job is lost when it was published and has not ended."""
    completed = _completed(outcomes)
    failed = sum(outcome.ended for outcome in outcomes) - completed
    lost = published - completed - failed
    return f"{published} jobs: {completed} completed, {failed} failed, {lost} lost"
