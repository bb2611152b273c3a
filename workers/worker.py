"""Runs a worker: it serves, drains, and records the death of its engine."""

import asyncio
import logging
from dataclasses import dataclass, fields

from niyama.errors import UnavailableError
from workers.engine.port import EngineDead
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.health import Health
from workers.intake.control import ControlReader
from workers.intake.poll_loop import PollLoop
from workers.intake.rebalance import Rebalances
from workers.load.publisher import LoadPublisher
from workers.offsets.log_watch import LogWatch
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import BatchSender
from workers.settings import WorkerSettings
from workers.stop import Stop, shutdown_step

log = logging.getLogger(__name__)

LAST_DECISIONS_S = 1.0
"""How long to wait for decisions that the scheduler reported before its engine died."""

Service = asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker consists of, connected to Kafka and to a started engine."""

    in_flight: InFlightJobs
    executor: Executor
    poll_loop: PollLoop
    partitions: Partitions
    rebalances: Rebalances
    control: ControlReader
    log_watch: LogWatch
    sender: BatchSender
    load: LoadPublisher


@dataclass(frozen=True, slots=True)
class Services:
    """The tasks that run for as long as the worker does."""

    polling: Service
    committing: Service
    sending: Service
    control: Service
    log_watch: Service
    decisions: Service
    engine: Service
    rebalances: Service
    load: Service

    def all(self) -> list[Service]:
        return [getattr(self, field.name) for field in fields(self)]

    def while_draining(self) -> list[Service]:
        """All but the one that takes new jobs."""
        return [service for service in self.all() if service is not self.polling]


class Worker:
    """One replica in its pool."""

    def __init__(self, settings: WorkerSettings, parts: WorkerParts, health: Health) -> None:
        self._settings = settings
        self._parts = parts
        self._health = health

    async def run(self, stop: Stop) -> None:
        """Serve until asked to stop, then drain.

        Raises UnavailableError when the engine dies or Kafka rejects records, KafkaError when the
        connection fails in a way that cannot be retried.
        """
        services = self._start_services()
        try:
            await self._until_stopped(stop, services)
            await self._drain(stop, services)
        finally:
            for service in services.all():
                service.cancel()
            await asyncio.gather(*services.all(), return_exceptions=True)

    # ---- serve

    def _start_services(self) -> Services:
        parts, start = self._parts, asyncio.create_task
        return Services(
            polling=start(parts.poll_loop.run()),
            committing=start(parts.partitions.keep_committed(self._settings.commit_interval_s)),
            sending=start(parts.sender.run(parts.partitions.until_sure)),
            control=start(parts.control.run()),
            log_watch=start(parts.log_watch.run()),
            decisions=start(parts.executor.follow_decisions()),
            engine=start(parts.executor.watch_engine()),
            rebalances=start(parts.rebalances.watch()),
            load=start(parts.load.run()),
        )

    async def _until_stopped(self, stop: Stop, services: Services) -> None:
        asked = asyncio.create_task(stop.drain.wait())
        try:
            await asyncio.wait([asked, *services.all()], return_when=asyncio.FIRST_COMPLETED)
            await self._raise_failure_of(services.all(), services.decisions)
        finally:
            asked.cancel()

    # ---- failures

    async def _raise_failure_of(self, services: list[Service], decisions: Service) -> None:
        for service in services:
            if not service.done():
                continue
            try:
                service.result()
            except EngineDead as error:
                await self._record_engine_death(decisions)
                raise UnavailableError(f"the engine died: {error}") from error

    async def _record_engine_death(self, decisions: Service) -> None:
        """Commit which jobs may have caused it."""
        parts = self._parts
        parts.executor.engine_died()
        self._health.engine = False
        await asyncio.wait([decisions], timeout=LAST_DECISIONS_S)
        suspects = [job.tracked for job in parts.in_flight]
        await shutdown_step(lambda: parts.partitions.write_ahead(suspects))

    # ---- drain

    async def _drain(self, stop: Stop, services: Services) -> None:
        """Let running jobs finish, leave the others to other workers, commit what is finished."""
        parts = self._parts
        self._health.draining = True
        parts.load.changed()
        parts.poll_loop.close()
        services.polling.cancel()
        for job in parts.in_flight:
            if not job.has_started:
                parts.executor.release(job)
        if len(parts.in_flight):
            await self._finish_running(stop, services)
        for job in parts.in_flight:
            parts.executor.release(job)
        await shutdown_step(parts.sender.flush)
        services.committing.cancel()  # the last commit is the one that gives the partitions up
        await shutdown_step(lambda: parts.partitions.commit(crashed=False))
        await parts.load.withdraw()

    async def _finish_running(self, stop: Stop, services: Services) -> None:
        in_flight = self._parts.in_flight
        log.info("waiting for %d running jobs", len(in_flight))
        waiting = [
            asyncio.create_task(in_flight.wait_until_empty()),
            asyncio.create_task(stop.immediate.wait()),
        ]
        try:
            await asyncio.wait(
                [*waiting, *services.while_draining()],
                timeout=self._settings.drain_limit_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._raise_failure_of(services.while_draining(), services.decisions)
        finally:
            for task in waiting:
                task.cancel()
        if len(in_flight):
            log.info("%d jobs did not finish; other workers will run them again", len(in_flight))
