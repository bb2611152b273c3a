"""One run: start the stack, load it, break it, let it settle, look at what is there."""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos import faults, hostile
from tests.chaos.evidence import Evidence
from tests.chaos.faults import WARM_UP_S
from tests.chaos.gathering import gather_evidence
from tests.chaos.hostile import HostileProducer
from tests.chaos.injection import FaultInjector
from tests.chaos.journal import Journal
from tests.chaos.ledger import AWAY, OutcomeWatcher, unfinished
from tests.chaos.load import Load
from tests.chaos.reconcile import reconcile
from tests.chaos.recovery import ServedChat, normal_overhead_s, recoveries
from tests.chaos.report import Narrator, Report
from tests.chaos.stack import ChaosStack
from tests.chaos.workload import ALL_REPLY_TOPICS, ENGINES, PlannedJob, plan_jobs

SETTLE_INTERVAL_S = 1.0
LATE_S = 5.0
"""After everything has ended: what should not happen gets the time to happen."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run does. The same options give the same jobs, faults and hostile records."""

    seed: int
    minutes: float
    jobs: int
    workers: int
    engine: str
    faults: tuple[str, ...]
    hostile: tuple[str, ...]
    gap_s: float
    """Mean time between faults."""
    settle_s: float
    """How long jobs may take to end after the last fault and the last submission."""

    @property
    def duration_s(self) -> float:
        return 60 * self.minutes


class Run:
    """A run and what it collects."""

    def __init__(self, options: Options, folder: Path, narrator: Narrator) -> None:
        self._options = options
        self._narrator = narrator
        self._journal = Journal()
        self._planned: dict[str, int] = {}
        self._stack = ChaosStack(
            folder, workers=options.workers, engine=options.engine, notify=narrator.notice
        )
        self._injector = FaultInjector(self._stack, narrator.fault)

    async def report(self) -> Report:
        """Do everything; takes the minutes that were asked for, and some more."""
        started_at_s = time.time()
        async with self._stack as stack:
            watcher = OutcomeWatcher(stack.database_url)
            watching = asyncio.create_task(watcher.run())
            try:
                load_at_s = time.time()
                sent = await self._load_and_break()
                await self._settle()
                if watching.done():
                    watching.result()
                await watcher.look()
            finally:
                watching.cancel()
            self._narrator.say("looking at the ledger, the API and the topics")
            evidence = await gather_evidence(
                stack.kafka_settings,
                stack.database_url,
                stack.gateway_urls,
                self._journal.jobs.keys(),
                ALL_REPLY_TOPICS,
            )
            evidence.outcomes_seen = watcher.seen
            deaths = list(stack.deaths)
        chats = self._chats(evidence)
        normal_s = normal_overhead_s(chats, load_at_s + WARM_UP_S)
        return Report(
            seed=self._options.seed,
            options=asdict(self._options),
            started_at_s=started_at_s,
            verdict=reconcile(self._journal, evidence),
            journal=self._journal,
            faults=self._injector.injected,
            hostile=sent,
            recoveries=recoveries(self._injector.injected, chats, normal_s),
            normal_overhead_s=normal_s,
            deaths=deaths,
            planned=self._planned,
            looks=watcher.looks,
        )

    async def _load_and_break(self) -> list[hostile.SentRecord]:
        options, stack = self._options, self._stack
        jobs = plan_jobs(options.seed, options.jobs, options.duration_s, options.engine)
        planned_faults = faults.plan_faults(
            options.seed, options.duration_s, options.faults, stack.workers, options.gap_s
        )
        records = hostile.plan_records(options.seed, options.duration_s, options.hostile)
        self._planned = {
            "jobs": len(jobs),
            "faults": len(planned_faults),
            "hostile records": len(records),
        }
        planned = ", ".join(f"{count:,} {name}" for name, count in self._planned.items())
        self._narrator.say(f"{planned} in {options.minutes:g} minutes")
        async with Load(
            stack.kafka_settings, stack.gateway_urls, self._journal, options.engine
        ) as load:
            producer = HostileProducer(
                stack.kafka_settings,
                self._journal,
                load.published,
                options.engine,
                ENGINES[options.engine].model,
            )
            progress = asyncio.create_task(self._show_progress(jobs))
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(load.run(jobs))
                    tasks.create_task(self._injector.run(planned_faults))
                    tasks.create_task(producer.run(records))
            finally:
                progress.cancel()
        return producer.sent

    async def _show_progress(self, jobs: Sequence[PlannedJob]) -> None:
        start_s = time.monotonic()
        while True:
            text = (
                f"{len(self._journal.jobs):,} of {len(jobs):,} jobs acknowledged, "
                f"{len(self._injector.injected)} faults over"
            )
            self._narrator.progress(text, time.monotonic() - start_s, self._options.duration_s)
            await asyncio.sleep(1)

    async def _settle(self) -> None:
        """Return when every job has ended and every reply was sent, or when it takes too long."""
        job_ids = [job.job_id for job in self._journal.jobs.values() if job.expectation.statuses]
        start_s = time.monotonic()
        left = len(job_ids)
        while left and time.monotonic() < start_s + self._options.settle_s:
            with contextlib.suppress(*AWAY):
                left = await unfinished(self._stack.database_url, job_ids, ALL_REPLY_TOPICS)
            waited_s = time.monotonic() - start_s
            text = f"settling: {left:,} jobs and replies are due"
            self._narrator.progress(text, waited_s, self._options.settle_s)
            await asyncio.sleep(SETTLE_INTERVAL_S)
        waited_s = time.monotonic() - start_s
        self._narrator.say(f"settled after {waited_s:.0f} s: {left:,} jobs and replies are left")
        await asyncio.sleep(LATE_S)

    def _chats(self, evidence: Evidence) -> list[ServedChat]:
        return [
            ServedChat(job.asked_at_s, _completed_at_s(evidence, job.job_id), job.chat_service_s)
            for job in self._journal.jobs.values()
            if job.chat_service_s is not None
        ]


def _completed_at_s(evidence: Evidence, job_id: object) -> float:
    row = evidence.ledger.get(job_id)  # type: ignore[call-overload]
    completed = row is not None and row.status == "completed"
    return row.finished_at_s or math.inf if completed else math.inf
