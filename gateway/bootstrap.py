"""Builds the gateway: the one place that knows all of its parts."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from faststream import FastStream
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import database
from gateway.api.app import create_app
from gateway.api.followers import MAX_FOLLOWERS, Followers
from gateway.api.health import Check, Health, PartName
from gateway.api.services import Services
from gateway.api.submissions import Submissions
from gateway.api.tracing import trace_requests
from gateway.fleet.application import application
from gateway.fleet.fleet import Fleet
from gateway.fleet.follower import LoadFollower
from gateway.ledger.consumer import LedgerConsumer, ledger_group
from gateway.ledger.counts import LedgerCounts
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.queries import Ledger
from gateway.ledger.reconciler import Reconciler
from gateway.ledger.writer import Written
from gateway.metrics import LedgerMetrics, observe, observe_counts, observe_pools
from gateway.process import Gateway, Part
from gateway.replies.relay import ReplyRelay
from gateway.settings import GatewaySettings
from niyama import Producer, kafka
from niyama.errors import ConfigurationError
from niyama.telemetry.instruments.gateway import OPERATION_DURATION
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.telemetry import Telemetry

REQUESTS_GRACE_S = 15
MAX_CONNECTIONS = MAX_FOLLOWERS + 2_000
"""Requests on more than these are answered 503. A connection may hold 64 KiB in uvicorn."""


def build(settings: GatewaySettings) -> Gateway:
    """A gateway that is not connected to anything yet."""
    engine = database.engine(settings, settings.database_connections)
    telemetry = Telemetry(settings, "niyama-gateway", settings.pool)
    measurements = telemetry.measurements
    tracing = telemetry.traces.provider(ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)))
    producer = Producer(settings, tracer_provider=tracing)
    ledger, stopping, fleet = Ledger(engine), asyncio.Event(), Fleet()
    readers = max(1, settings.database_connections // 2)
    submissions = _submissions(settings, producer, ledger, measurements)
    followers = Followers(ledger.not_open, submissions.is_recent, stopping, readers)
    counts = LedgerCounts(engine, settings.pool)
    consumer, parts = _ledger_parts(settings, counts, followers, measurements)
    observe_pools(measurements, fleet, counts)
    services = Services(
        Health(_checks(settings, engine, producer, consumer)),
        ledger,
        submissions,
        followers,
        telemetry.metrics,
        fleet,
    )
    app = create_app(services)
    if tracing is not None:
        trace_requests(app, tracing)
    follower = LoadFollower(_application(settings, fleet, telemetry), fleet)
    without_postgres: dict[str, Part] = {"following load reports": follower}
    server = _server(app)
    return Gateway(settings, engine, producer, parts, without_postgres, server, stopping, telemetry)


def _ledger_parts(
    settings: GatewaySettings,
    counts: LedgerCounts,
    followers: Followers,
    measurements: Measurements,
) -> tuple[LedgerConsumer, dict[str, Part]]:
    """The ledger's consumer; and by name everything that runs while there is a database, it too."""
    metrics = LedgerMetrics(measurements, ledger_group(settings))
    relay, reconciler = ReplyRelay(settings), Reconciler(settings)
    dead_letters = DeadLetters(settings)

    def wake(written: Written) -> None:
        metrics.written(written)
        followers.wake(written.ended)
        if written.replies:
            relay.wake()
        if written.to_cancel:
            reconciler.wake()

    consumer = LedgerConsumer(settings, wake, dead_letters.put, metrics.stored)
    observe(measurements, consumer, dead_letters)
    parts: dict[str, Part] = {
        "the ledger": consumer,
        "sending dead letters": dead_letters,
        "the reconciler": reconciler,
        "the relay": relay,
    }
    if measurements.enabled:
        observe_counts(measurements, counts)
        parts["counting what is open in the ledger"] = counts
    return consumer, parts


def _application(settings: GatewaySettings, fleet: Fleet, telemetry: Telemetry) -> FastStream:
    measured = telemetry.measurements.enabled
    return application(settings, fleet, telemetry.metrics.registry if measured else None)


def listen(settings: GatewaySettings) -> socket.socket:
    """The API's socket. Raises ConfigurationError when the port or address is unavailable."""
    address = (settings.api_host, settings.api_port)
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.api_host} port {settings.api_port}: {error.strerror}. "
            "Stop what uses it, or choose another --api-port (NIYAMA_API_PORT) or --api-host"
        ) from error


def _submissions(
    settings: GatewaySettings, producer: Producer, ledger: Ledger, measurements: Measurements
) -> Submissions:
    published = measurements.histogram(OPERATION_DURATION)
    return Submissions(
        settings,
        producer,
        ledger,
        lambda topic, error, duration_s: published.record(duration_s, topic, error),
    )


def _checks(
    settings: GatewaySettings, engine: AsyncEngine, producer: Producer, consumer: LedgerConsumer
) -> dict[PartName, Check]:
    async def kafka_missing() -> str | None:
        try:
            await kafka.probe(settings)
        except KafkaError:
            return "does not answer"
        return None if producer.connected else "jobs cannot be published yet"

    async def postgres_missing() -> str | None:
        return None if await database.answers(engine) else "does not answer"

    return {"kafka": kafka_missing, "postgres": postgres_missing, "ledger": consumer.missing}


class _Server(uvicorn.Server):
    """uvicorn, with signals left to the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=REQUESTS_GRACE_S,
        )
    )
