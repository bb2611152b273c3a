"""Connects a worker to Kafka and assembles it: its parts are constructed only here."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from niyama import kafka
from niyama.errors import UnavailableError
from workers.engine.port import Engine
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.health import Health
from workers.intake.admission import Admission
from workers.intake.backpressure import Limits
from workers.intake.cancellations import Cancellations
from workers.intake.control import ControlReader
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import PollLoop
from workers.intake.rebalance import Rebalances
from workers.offsets.assignor import EvenStickyAssignor
from workers.offsets.attempts import CrashLimit
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import BatchSender
from workers.reporting.record_sizes import check_record_sizes
from workers.reporting.reporter import Reporter
from workers.settings import WorkerSettings
from workers.stop import Stop, shutdown_step
from workers.worker import Worker, WorkerParts

FETCH_WAIT_MS = 100
"""Short, because a partition that is resumed waits for the fetch in progress."""
FETCH_BYTES = 1024 * 1024
"""The limit of one partition's share; a larger record is fetched alone."""
PRODUCER_BATCH_BYTES = 2 * 1024 * 1024
HEARTBEATS_PER_SESSION = 5
MIN_POLL_INTERVAL_S = 300.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """Kafka clients. All are started but `jobs`, which joins the consumer group last."""

    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    jobs: AIOKafkaConsumer
    control: AIOKafkaConsumer


async def run_worker(settings: WorkerSettings, engine: Engine, health: Health, stop: Stop) -> None:
    """Connect, serve until asked to stop, drain and disconnect. Needs a started engine.

    Raises ConfigurationError when topics accept only small records, UnavailableError when the
    engine dies or Kafka cannot be used.
    """
    try:
        async with AsyncExitStack() as stack:
            starting = _start(settings, engine, health, stack)
            worker = await _unless(stop.drain, starting)
            if worker is not None:
                await worker.run(stop)
    except KafkaError as error:
        raise UnavailableError(f"this worker cannot use Kafka any longer: {error!r}") from error


async def _start(
    settings: WorkerSettings, engine: Engine, health: Health, stack: AsyncExitStack
) -> Worker:
    topics = settings.topics
    await kafka.wait_for_kafka(settings)
    await kafka.ensure_topics(settings, topics.all)
    connections = await _connect(settings, stack)
    written = [spec.name for spec in (topics.events, topics.tokens, topics.dead_letters)]
    await check_record_sizes(connections.admin, written)
    sender = await BatchSender.open(connections.producer, written)
    parts = _build(settings, engine, health, connections, sender)
    await parts.control.catch_up()
    connections.jobs.subscribe([spec.name for spec in topics.jobs], listener=parts.rebalances)
    await connections.jobs.start()
    return Worker(settings, parts, health)


# ---- connections


async def _connect(settings: WorkerSettings, stack: AsyncExitStack) -> Connections:
    """Connect to Kafka until `stack` is closed."""
    producer = kafka.producer(settings, max_batch_size=PRODUCER_BATCH_BYTES)
    stack.push_async_callback(shutdown_step, producer.stop)
    await producer.start()
    admin = AIOKafkaAdminClient(**kafka.connection(settings))
    stack.push_async_callback(shutdown_step, admin.close)
    await admin.start()
    jobs = _jobs_consumer(settings)
    stack.push_async_callback(shutdown_step, jobs.stop)
    control = kafka.consumer(settings, settings.topics.control.name)
    stack.push_async_callback(shutdown_step, control.stop)
    await control.start()
    return Connections(producer, admin, jobs, control)


def _jobs_consumer(settings: WorkerSettings) -> AIOKafkaConsumer:
    session_ms = int(settings.session_timeout_s * 1000)
    # Nothing is polled while draining.
    poll_interval_s = max(MIN_POLL_INTERVAL_S, 2 * settings.drain_limit_s)
    return kafka.consumer(
        settings,
        group_id=settings.group,
        client_id=settings.worker_id,
        partition_assignment_strategy=(EvenStickyAssignor(),),
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // HEARTBEATS_PER_SESSION,
        max_poll_interval_ms=int(poll_interval_s * 1000),
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


# ---- parts


def _build(
    settings: WorkerSettings,
    engine: Engine,
    health: Health,
    connections: Connections,
    sender: BatchSender,
) -> WorkerParts:
    jobs, in_flight, cancellations = connections.jobs, InFlightJobs(), Cancellations()
    partitions = Partitions(jobs, connections.admin, settings.group)
    crash_limit = CrashLimit(settings.max_attempts)
    flow = FlowControl(jobs, partitions, in_flight, sender, settings.topics, _limits(settings))
    reporter = _reporter(settings, sender)
    executor = Executor(
        engine,
        in_flight,
        reporter,
        sender,
        commit=partitions.commit,
        on_job_left=flow.update,
        crash_limit=crash_limit,
        clock=time.time,
    )
    admission = Admission(engine.model, settings.qos_catalog)
    dispatcher = _dispatcher(admission, in_flight, executor, reporter, cancellations, crash_limit)
    poll_loop = PollLoop(
        jobs, partitions, flow, dispatcher, crash_limit=crash_limit, clock=time.monotonic
    )
    rebalances = Rebalances(
        jobs, partitions, in_flight, executor, poll_loop, on_assigned=health.partitions_assigned
    )
    control = ControlReader(connections.control, cancellations, executor.cancel, clock=time.time)
    return WorkerParts(
        in_flight=in_flight,
        executor=executor,
        poll_loop=poll_loop,
        partitions=partitions,
        rebalances=rebalances,
        control=control,
        sender=sender,
    )


def _dispatcher(
    admission: Admission,
    in_flight: InFlightJobs,
    executor: Executor,
    reporter: Reporter,
    cancellations: Cancellations,
    crash_limit: CrashLimit,
) -> Dispatcher:
    return Dispatcher(
        admission,
        in_flight,
        executor,
        reporter,
        cancellations,
        crash_limit=crash_limit,
        clock=time.time,
    )


def _reporter(settings: WorkerSettings, sender: BatchSender) -> Reporter:
    return Reporter(
        sender,
        settings.topics,
        worker_id=settings.worker_id,
        pool=settings.pool,
        clock=time.time,
    )


def _limits(settings: WorkerSettings) -> Limits:
    return Limits(
        interactive_jobs=settings.max_interactive_jobs,
        batch_jobs=settings.max_batch_jobs,
        batch_prompt_tokens=settings.max_batch_prompt_tokens,
    )


async def _unless(event: asyncio.Event, work: Coroutine[object, object, T]) -> T | None:
    """The result of `work`; None, with the work cancelled, when the event comes first."""
    waiting, working = asyncio.create_task(event.wait()), asyncio.create_task(work)
    try:
        await asyncio.wait([waiting, working], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(waiting, working, return_exceptions=True)
