"""Connects a worker to Kafka and assembles it: its parts are constructed only here."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from aiokafka.errors import KafkaError

from niyama import kafka
from niyama.errors import UnavailableError
from niyama.telemetry.instruments import shared
from niyama.telemetry.instruments import worker as instruments
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.telemetry import Telemetry
from schemas.topics import worker_key
from workers.connections import Connections, connect
from workers.engine.port import Engine
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import JobMetrics, NoJobMetrics
from workers.health import Health
from workers.intake.admission import Admission
from workers.intake.cancellations import Cancellations
from workers.intake.control import ControlReader
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import PollLoop
from workers.intake.rebalance import Rebalances
from workers.load.publisher import LoadPublisher, connection
from workers.load.report import WorkerLoad, label
from workers.metrics import observe, observe_engine
from workers.offsets.attempts import CrashLimit
from workers.offsets.log_watch import LogWatch
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import BatchSender
from workers.reporting.record_sizes import check_record_sizes
from workers.reporting.reporter import Reporter
from workers.settings import WorkerSettings
from workers.stop import Stop
from workers.tracing.spans import SpanMaker
from workers.tracing.traces import JobTraces, NoTraces
from workers.worker import Worker, WorkerParts


async def run_worker(
    settings: WorkerSettings, engine: Engine, health: Health, stop: Stop, telemetry: Telemetry
) -> None:
    """Connect, serve until asked to stop, drain and disconnect. Needs a started engine.

    Raises ConfigurationError when topics accept only small records, UnavailableError when the
    engine dies or Kafka cannot be used.
    """
    try:
        async with AsyncExitStack() as stack:
            starting = _start(settings, engine, health, stack, telemetry)
            worker = await stop.unless_asked(starting)
            if worker is not None:
                await worker.run(stop)
    except KafkaError as error:
        raise UnavailableError(f"this worker cannot use Kafka any longer: {error!r}") from error


async def _start(
    settings: WorkerSettings,
    engine: Engine,
    health: Health,
    stack: AsyncExitStack,
    telemetry: Telemetry,
) -> Worker:
    topics = settings.topics
    await kafka.prepare_topics(settings, topics.of_workers)
    connections = await connect(settings, stack)
    written = [spec.name for spec in (topics.events, topics.tokens, topics.dead_letters)]
    await check_record_sizes(connections.admin, written)
    parts = _build(settings, engine, health, connections, telemetry)
    await parts.control.catch_up()
    connections.jobs.subscribe([spec.name for spec in topics.jobs], listener=parts.rebalances)
    await connections.jobs.start()
    return Worker(settings, parts, health)


# ---- parts


@dataclass(frozen=True, slots=True)
class _Common:
    """What several parts of a worker work with."""

    in_flight: InFlightJobs
    partitions: Partitions
    flow: FlowControl
    reporter: Reporter
    metrics: NoJobMetrics
    traces: NoTraces


def _build(
    settings: WorkerSettings,
    engine: Engine,
    health: Health,
    connections: Connections,
    telemetry: Telemetry,
) -> WorkerParts:
    common = _common(settings, engine, connections, telemetry)
    jobs, partitions, measurements = connections.jobs, common.partitions, telemetry.measurements
    executor, cancellations = _executor(engine, common), Cancellations()
    dispatcher = _dispatcher(settings, engine, common, executor, cancellations)
    on_read = _counting_reads(settings, measurements)
    poll_loop = PollLoop(jobs, partitions, common.flow, dispatcher, on_read)
    observe(measurements, common.in_flight, partitions, connections.sender, common.reporter)
    observe_engine(measurements, lambda: engine.load, engine.context_tokens)
    load = _load_publisher(settings, engine, health, common)

    def assigned() -> None:
        health.partitions_assigned()
        load.changed()

    rebalances = Rebalances(
        jobs, partitions, common.in_flight, executor, poll_loop, on_assigned=assigned
    )
    on_restarted = rebalances.release_moved
    return WorkerParts(
        in_flight=common.in_flight,
        executor=executor,
        poll_loop=poll_loop,
        partitions=partitions,
        rebalances=rebalances,
        control=ControlReader(connections.control, cancellations, executor.cancel),
        log_watch=LogWatch(jobs, connections.admin, partitions, on_restarted=on_restarted),
        sender=connections.sender,
        load=load,
    )


def _common(
    settings: WorkerSettings, engine: Engine, connections: Connections, telemetry: Telemetry
) -> _Common:
    jobs, sender, in_flight = connections.jobs, connections.sender, InFlightJobs()
    partitions = Partitions(
        jobs,
        connections.admin,
        settings.workers_group,
        session_timeout_s=settings.session_timeout_s,
        clock=_uptime_s,
    )
    return _Common(
        in_flight=in_flight,
        partitions=partitions,
        flow=FlowControl(jobs, partitions, in_flight, sender, settings.topics, settings.limits),
        reporter=_reporter(settings, sender),
        metrics=_metrics(settings, engine, telemetry),
        traces=_traces(settings, telemetry),
    )


def _executor(engine: Engine, common: _Common) -> Executor:
    return Executor(
        engine,
        common.in_flight,
        common.reporter,
        partitions=common.partitions,
        on_job_left=common.flow.update,
        clock=time.time,
        metrics=common.metrics,
        traces=common.traces,
    )


def _dispatcher(
    settings: WorkerSettings,
    engine: Engine,
    common: _Common,
    executor: Executor,
    cancellations: Cancellations,
) -> Dispatcher:
    return Dispatcher(
        Admission(engine.model, settings.qos_catalog),
        common.in_flight,
        executor,
        common.reporter,
        cancellations,
        crash_limit=CrashLimit(settings.max_attempts),
        clock=time.time,
        metrics=common.metrics,
        traces=common.traces,
    )


def _load_publisher(
    settings: WorkerSettings, engine: Engine, health: Health, common: _Common
) -> LoadPublisher:
    load = WorkerLoad(
        settings.topics,
        settings.limits,
        engine,
        common.in_flight,
        common.partitions,
        common.flow,
        worker_id=settings.worker_id,
        pool=settings.pool,
        is_draining=lambda: health.draining,
        clock=time.time,
    )
    key = worker_key(settings.pool, label(settings.worker_id))
    return LoadPublisher(partial(connection, settings, settings.topics.load, key), load.report)


def _reporter(settings: WorkerSettings, sender: BatchSender) -> Reporter:
    return Reporter(
        sender,
        settings.topics,
        worker_id=settings.worker_id,
        pool=settings.pool,
        clock=time.time,
    )


def _counting_reads(
    settings: WorkerSettings, measurements: Measurements
) -> Callable[[str, int], None]:
    """Told how many records of a topic were read."""
    read, group = measurements.counter(shared.CONSUMED_MESSAGES), settings.workers_group
    return lambda topic, count: read.add(count, topic, group)


def _metrics(settings: WorkerSettings, engine: Engine, telemetry: Telemetry) -> NoJobMetrics:
    if not telemetry.measurements.enabled:
        return NoJobMetrics()
    return JobMetrics(telemetry.measurements, engine.model, settings.workers_group, time.monotonic)


def _traces(settings: WorkerSettings, telemetry: Telemetry) -> NoTraces:
    traces = telemetry.traces
    if traces.processor is None:
        return NoTraces()
    events = settings.topics.events.name
    maker = SpanMaker(traces.processor.on_end, traces.resource, settings.workers_group, events)
    jobs = JobTraces(maker, settings.trace_sample_ratio, clock=time.time)
    telemetry.measurements.observe(
        instruments.TRACES_KEPT, lambda: [(jobs.kept, ("true",)), (jobs.dropped, ("false",))]
    )
    return jobs


def _uptime_s() -> float:
    """Seconds that go on while this process, or the machine, is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
