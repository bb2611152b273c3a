"""The worker: its parts, wired, from the first connection to the last commit."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from niyama import kafka
from niyama.errors import UnavailableError
from workers.engine.port import Engine, EngineDead
from workers.execution.executor import Execution
from workers.execution.in_flight import Roster
from workers.health import Health
from workers.intake.admission import Admission
from workers.intake.backpressure import Limits
from workers.intake.cancellations import Cancellations
from workers.intake.control import ControlReader
from workers.intake.dispatch import Reception
from workers.intake.poll_loop import Intake
from workers.offsets.assignor import EvenStickyAssignor
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import Outbox
from workers.reporting.record_sizes import check_record_sizes
from workers.reporting.reporter import Reporter
from workers.settings import WorkerSettings
from workers.stop import Stop

log = logging.getLogger(__name__)

FAREWELL_S = 10.0
"""What the last reports, the last commit and each goodbye may take when Kafka does not answer."""
LAST_WORDS_S = 1.0
FETCH_WAIT_MS = 100  # a partition that is resumed waits for the fetch that is under way
FETCH_BYTES = 1024 * 1024  # of one partition; a larger record comes alone
HEARTBEATS_PER_SESSION = 5


class Worker:
    """One replica's connection to its pool. Needs a started engine."""

    def __init__(self, settings: WorkerSettings, engine: Engine, health: Health) -> None:
        self._settings = settings
        self._engine = engine
        self._health = health
        self._topics = settings.topics
        self._roster = Roster()
        self._cancellations = Cancellations()

    async def run(self, stop: Stop) -> None:
        """Serve until asked to stop, then drain.

        Raises UnavailableError when the engine died or Kafka refuses what it is sent.
        """
        try:
            async with AsyncExitStack() as connections:
                if await _before(stop.drain.wait(), self._connect(connections)):
                    await self._serve(stop)
        except KafkaError as error:
            raise UnavailableError(f"Kafka does not let this worker go on: {error!r}") from error

    async def _serve(self, stop: Stop) -> None:
        services = [asyncio.create_task(service, name=name) for name, service in self._services()]
        try:
            await self._until_stopped(stop, services)
            await self._drain(stop, services)
        finally:
            for service in services:
                service.cancel()
            await asyncio.gather(*services, return_exceptions=True)

    # ---- start

    async def _connect(self, connections: AsyncExitStack) -> None:
        settings, topics = self._settings, self._topics
        await kafka.wait_for_kafka(settings)
        await kafka.ensure_topics(settings, topics.all)
        producer = await self._producer(connections)
        admin = await self._admin(connections)
        written = [spec.name for spec in (topics.events, topics.tokens, topics.dead_letters)]
        await check_record_sizes(admin, written)
        self._outbox = Outbox(producer)
        await self._outbox.open(*written)
        self._assemble(self._consumer(connections), admin)
        self._control = ControlReader(
            await self._control_consumer(connections), self._cancellations, self._execution.cancel
        )
        await self._control.catch_up()
        self._jobs.subscribe([spec.name for spec in topics.jobs], listener=self._partitions)
        await self._jobs.start()

    async def _producer(self, connections: AsyncExitStack) -> AIOKafkaProducer:
        producer = kafka.producer(self._settings, max_batch_size=2 * FETCH_BYTES)
        connections.push_async_callback(_farewell, producer.stop)
        await producer.start()
        return producer

    def _consumer(self, connections: AsyncExitStack) -> AIOKafkaConsumer:
        session_ms = int(self._settings.session_timeout_s * 1000)
        idle_s = max(300.0, 2 * self._settings.drain_limit_s)  # nothing is polled while draining
        consumer = kafka.consumer(
            self._settings,
            group_id=self._settings.group,
            client_id=self._settings.worker_id,
            partition_assignment_strategy=(EvenStickyAssignor(),),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // HEARTBEATS_PER_SESSION,
            max_poll_interval_ms=int(idle_s * 1000),
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        connections.push_async_callback(_farewell, consumer.stop)
        return consumer

    async def _control_consumer(self, connections: AsyncExitStack) -> AIOKafkaConsumer:
        consumer = kafka.consumer(self._settings, self._topics.control.name)
        connections.push_async_callback(_farewell, consumer.stop)
        await consumer.start()
        return consumer

    async def _admin(self, connections: AsyncExitStack) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**kafka.connection(self._settings))
        connections.push_async_callback(_farewell, admin.close)
        await admin.start()
        return admin

    def _assemble(self, jobs: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        settings, roster = self._settings, self._roster
        attempts = settings.max_attempts
        reporter = self._reporter()
        self._jobs = jobs
        self._partitions = Partitions(jobs, admin, settings.group, self._rebalanced)
        self._execution = Execution(
            self._engine,
            roster,
            reporter,
            self._outbox,
            commit=self._partitions.commit,
            max_attempts=attempts,
            clock=time.time,
        )
        admission = Admission(self._engine.model, settings.qos_catalog)
        reception = Reception(
            admission,
            roster,
            self._execution,
            reporter,
            self._cancellations,
            max_attempts=attempts,
            clock=time.time,
        )
        self._intake = Intake(
            jobs,
            self._partitions,
            roster,
            self._outbox,
            reception.accept,
            self._topics,
            _limits(settings),
            max_attempts=attempts,
        )
        roster.on_change = self._intake.steer

    def _reporter(self) -> Reporter:
        return Reporter(
            self._outbox,
            self._topics,
            worker_id=self._settings.worker_id,
            pool=self._settings.pool,
            clock=time.time,
        )

    def _services(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for as long as the worker does; intake first."""
        return [
            ("intake", self._intake.run()),
            ("commits", self._commit_regularly()),
            ("outbox", self._outbox.run()),
            ("control", self._control.run()),
            ("decisions", self._execution.follow_decisions()),
            ("engine", self._execution.watch()),
            ("partitions", self._partitions.watch()),
        ]

    # ---- while it runs

    async def _until_stopped(self, stop: Stop, services: list[asyncio.Task[None]]) -> None:
        asked = asyncio.create_task(stop.drain.wait())
        try:
            await asyncio.wait([asked, *services], return_when=asyncio.FIRST_COMPLETED)
            await self._raise_if_broken(services)
        finally:
            asked.cancel()

    async def _raise_if_broken(self, services: list[asyncio.Task[None]]) -> None:
        for service in services:
            if not service.done():
                continue
            try:
                service.result()
            except EngineDead as error:
                await self._put_death_on_record(services)
                raise UnavailableError(f"the engine died: {error}") from error

    async def _put_death_on_record(self, services: list[asyncio.Task[None]]) -> None:
        """Count the death against the jobs that may have caused it, so that it happens no more
        than max_attempts times."""
        decisions = [service for service in services if service.get_name() == "decisions"]
        await asyncio.wait(decisions, timeout=LAST_WORDS_S)  # what it still told
        self._execution.suspect()
        await _farewell(self._partitions.commit)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.commit_interval_s)
            await self._partitions.commit()

    def _rebalanced(self) -> None:
        for work in self._roster:
            partition = TopicPartition(work.record.topic, work.record.partition)
            if not self._partitions.owns(partition, work.progress, work.record.offset):
                self._execution.release(work)
        self._intake.rebalanced()
        self._health.kafka = True

    # ---- end

    async def _drain(self, stop: Stop, services: list[asyncio.Task[None]]) -> None:
        """Let running work finish, leave the rest to others, put what is finished on record."""
        self._health.draining = True
        self._intake.close()
        services[0].cancel()
        for work in self._roster:
            if not work.started:
                self._execution.release(work)
        if len(self._roster):
            await self._finish_running(stop, services)
        for work in self._roster:
            self._execution.release(work)
        await _farewell(self._outbox.flush)
        await _farewell(lambda: self._partitions.commit(crashed=False))

    async def _finish_running(self, stop: Stop, services: list[asyncio.Task[None]]) -> None:
        log.info("%d jobs are running", len(self._roster))
        waiting = [
            asyncio.create_task(self._roster.emptied()),
            asyncio.create_task(stop.at_once.wait()),
        ]
        try:
            await asyncio.wait(
                [*waiting, *services[1:]],
                timeout=self._settings.drain_limit_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            await self._raise_if_broken(services[1:])
        finally:
            for task in waiting:
                task.cancel()
        if len(self._roster):
            log.info("%d jobs did not finish; others will do them again", len(self._roster))


def _limits(settings: WorkerSettings) -> Limits:
    return Limits(
        interactive_jobs=settings.max_interactive_jobs,
        batch_jobs=settings.max_batch_jobs,
        batch_prompt_tokens=settings.max_batch_prompt_tokens,
    )


async def _before(event: Coroutine[Any, Any, Any], work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work`` unless ``event`` comes first; whether it was done."""
    waiting, working = asyncio.create_task(event), asyncio.create_task(work)
    try:
        await asyncio.wait([waiting, working], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(waiting, working, return_exceptions=True)


async def _farewell(goodbye: Any) -> None:
    """Do what comes last, if Kafka lets us: nothing is lost when it does not."""
    with suppress(TimeoutError, KafkaError):
        farewell: Awaitable[None] = goodbye()
        await asyncio.wait_for(farewell, FAREWELL_S)
