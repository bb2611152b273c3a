"""Connects a worker to Kafka and assembles it: its parts are constructed only here."""

import time
from contextlib import AsyncExitStack
from functools import partial

from aiokafka.errors import KafkaError

from niyama import kafka
from niyama.errors import UnavailableError
from niyama.telemetry.instruments import shared
from niyama.telemetry.instruments import worker as instruments
from niyama.telemetry.telemetry import Telemetry
from schemas.topics import worker_key
from workers.connections import Connections, connect
from workers.engine.port import Engine
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import JobMetrics, NoJobMetrics
from workers.health import Health
from workers.intake.admission import Admission
from workers.intake.backpressure import Budget, Limits
from workers.intake.cancellations import Cancellations
from workers.intake.control import ControlReader
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import PollLoop
from workers.intake.rebalance import Rebalances
from workers.load.publisher import LoadPublisher, connection
from workers.load.report import WorkerLoad, label
from workers.measuring import observe, observe_engine
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

MIB = 1024 * 1024


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


def _build(
    settings: WorkerSettings,
    engine: Engine,
    health: Health,
    connections: Connections,
    telemetry: Telemetry,
) -> WorkerParts:
    jobs, sender = connections.jobs, connections.sender
    in_flight, cancellations = InFlightJobs(), Cancellations()
    partitions = Partitions(
        jobs,
        connections.admin,
        settings.workers_group,
        session_timeout_s=settings.session_timeout_s,
        clock=_uptime_s,
    )
    crash_limit = CrashLimit(settings.max_attempts)
    flow = FlowControl(jobs, partitions, in_flight, sender, settings.topics, _limits(settings))
    reporter = _reporter(settings, sender)
    metrics, traces = _metrics(settings, engine, telemetry), _traces(settings, telemetry)
    executor = Executor(
        engine,
        in_flight,
        reporter,
        partitions=partitions,
        on_job_left=flow.update,
        clock=time.time,
        metrics=metrics,
        traces=traces,
    )
    admission = Admission(engine.model, settings.qos_catalog)
    dispatcher = _dispatcher(
        admission, in_flight, executor, reporter, cancellations, crash_limit, metrics, traces
    )
    read = telemetry.measurements.counter(shared.CONSUMED_MESSAGES)
    group = settings.workers_group
    poll_loop = PollLoop(
        jobs, partitions, flow, dispatcher, lambda topic, count: read.add(count, topic, group)
    )
    observe(telemetry.measurements, in_flight, partitions, sender, reporter)
    observe_engine(telemetry.measurements, lambda: engine.load, engine.context_tokens)
    load = _load_publisher(settings, engine, health, in_flight, partitions, flow)

    def assigned() -> None:
        health.partitions_assigned()
        load.changed()

    rebalances = Rebalances(jobs, partitions, in_flight, executor, poll_loop, on_assigned=assigned)
    log_watch = LogWatch(jobs, connections.admin, partitions, on_restarted=rebalances.release_moved)
    control = ControlReader(connections.control, cancellations, executor.cancel)
    return WorkerParts(
        in_flight=in_flight,
        executor=executor,
        poll_loop=poll_loop,
        partitions=partitions,
        rebalances=rebalances,
        control=control,
        log_watch=log_watch,
        sender=sender,
        load=load,
    )


def _load_publisher(
    settings: WorkerSettings,
    engine: Engine,
    health: Health,
    in_flight: InFlightJobs,
    partitions: Partitions,
    flow: FlowControl,
) -> LoadPublisher:
    load = WorkerLoad(
        settings.topics,
        _limits(settings),
        engine,
        in_flight,
        partitions,
        flow,
        worker_id=settings.worker_id,
        pool=settings.pool,
        is_draining=lambda: health.draining,
        clock=time.time,
    )
    key = worker_key(settings.pool, label(settings.worker_id))
    return LoadPublisher(partial(connection, settings, settings.topics.load, key), load.report)


def _dispatcher(
    admission: Admission,
    in_flight: InFlightJobs,
    executor: Executor,
    reporter: Reporter,
    cancellations: Cancellations,
    crash_limit: CrashLimit,
    metrics: NoJobMetrics,
    traces: NoTraces,
) -> Dispatcher:
    return Dispatcher(
        admission,
        in_flight,
        executor,
        reporter,
        cancellations,
        crash_limit=crash_limit,
        clock=time.time,
        metrics=metrics,
        traces=traces,
    )


def _reporter(settings: WorkerSettings, sender: BatchSender) -> Reporter:
    return Reporter(
        sender,
        settings.topics,
        worker_id=settings.worker_id,
        pool=settings.pool,
        clock=time.time,
    )


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
        instruments.TRACES_KEPT, lambda: [(jobs.kept, ("kept",)), (jobs.dropped, ("dropped",))]
    )
    return jobs


def _limits(settings: WorkerSettings) -> Limits:
    return Limits(
        interactive=Budget(
            settings.max_interactive_jobs,
            settings.max_interactive_prompt_tokens,
            settings.max_interactive_memory_mib * MIB,
        ),
        batch=Budget(
            settings.max_batch_jobs,
            settings.max_batch_prompt_tokens,
            settings.max_batch_memory_mib * MIB,
        ),
    )


def _uptime_s() -> float:
    """Seconds that go on while this process, or the machine, is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
