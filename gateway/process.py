"""The gateway's parts, put together: the one place that knows all of them."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

import uvicorn
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from gateway import database
from gateway.api.app import create_app
from gateway.api.health import Health
from gateway.api.services import Services
from gateway.api.submissions import Submissions
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.history_partitions import ensure_partitions
from gateway.ledger.queries import Ledger
from gateway.ledger.writer import Written
from gateway.migrate import check_schema
from gateway.notices import Notices
from gateway.replies.relay import ReplyRelay
from gateway.settings import GatewaySettings
from niyama import Producer, kafka
from niyama.errors import ConfigurationError

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0
KAFKA_CHECK_TIMEOUT_S = 3.0
PARTITIONS_INTERVAL_S = 3600.0
REQUESTS_GRACE_S = 15
STOP_GRACE_S = 15.0


class Gateway:
    """One gateway process: the API, the ledger's consumer, the relay of replies."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._database = database.engine(settings, settings.database_connections)
        self._relay = ReplyRelay(settings)
        self._consumer = LedgerConsumer(settings, on_written=self._wake_relay)
        self._stopped = asyncio.Event()
        checks = {
            "kafka": self._kafka_missing,
            "postgres": self._postgres_missing,
            "ledger": self._consumer.missing,
        }
        self._services = Services(Health(checks), Ledger(self._database))
        self._server = _server(self._services)

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is under way.

        The API answers from the first moment; what is missing is waited for. Raises
        ConfigurationError or UnavailableError for what waiting does not cure.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        working = asyncio.create_task(self._work())
        await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        self.stop()
        await serving
        await self._finish(working)

    def stop(self) -> None:
        """Take no more requests, then end ``run``. A second time: at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self._services.stopping = True

    async def _work(self) -> None:
        await asyncio.gather(self._prepare_postgres(), self._prepare_kafka())
        async with Producer(self._settings) as producer:
            self._services.submissions = Submissions(
                self._settings, producer, self._services.ledger
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._consumer.run())
                tasks.create_task(self._relay.run())
                tasks.create_task(self._make_partitions())

    async def _finish(self, working: asyncio.Task[None]) -> None:
        self._consumer.stop()
        self._relay.stop()
        self._stopped.set()
        if self._services.submissions is None:
            working.cancel()  # it was waiting for Kafka or Postgres
        _, late = await asyncio.wait({working}, timeout=STOP_GRACE_S)
        if late:
            log.warning(
                "Kafka or Postgres do not answer; what is not in the ledger yet is in the log"
            )
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await self._database.dispose()

    def _wake_relay(self, written: Written) -> None:
        if written.replies:
            self._relay.wake()

    async def _prepare_postgres(self) -> None:
        async def prepare() -> None:
            await database.wait_for_postgres(self._settings)
            await check_schema(self._settings)
            await self._ensure_partitions()

        await _until_done(prepare, database.UNREACHABLE)

    async def _prepare_kafka(self) -> None:
        async def prepare() -> None:
            await kafka.wait_for_kafka(self._settings)
            await kafka.ensure_topics(self._settings, self._settings.topics.all)

        await _until_done(prepare, (KafkaError,))

    async def _make_partitions(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), PARTITIONS_INTERVAL_S)
                return
            try:
                await self._ensure_partitions()
            except database.UNREACHABLE as error:
                log.warning("partitions of job_events not made, next try in an hour: %r", error)

    async def _ensure_partitions(self) -> None:
        connection = await database.connect(self._settings, "partitions")
        try:
            await ensure_partitions(connection, datetime.now(UTC).date())
        finally:
            await connection.close()

    async def _postgres_missing(self) -> str | None:
        return None if await database.answers(self._database) else "does not answer"

    async def _kafka_missing(self) -> str | None:
        probe = AIOKafkaAdminClient(**kafka.connection(self._settings))
        try:
            async with asyncio.timeout(KAFKA_CHECK_TIMEOUT_S):
                await probe.start()
        except (KafkaError, TimeoutError):
            return "does not answer"
        finally:
            await probe.close()
        return None


def listen(settings: GatewaySettings) -> socket.socket:
    """The API's socket. Raises ConfigurationError when the port or address is not to be had."""
    address = (settings.api_host, settings.api_port)
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.api_host} port {settings.api_port}: {error.strerror}. "
            "Stop what uses it, or choose another --api-port (NIYAMA_API_PORT) or --api-host"
        ) from error


async def _until_done(
    prepare: Callable[[], Awaitable[None]], passing: tuple[type[BaseException], ...]
) -> None:
    """Repeat ``prepare`` while it raises errors that pass by themselves."""
    notices = Notices()
    while True:
        try:
            return await prepare()
        except passing as error:
            notices.warn("not ready, trying again: %r", error)
            await asyncio.sleep(RETRY_INTERVAL_S)


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(services: Services) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            create_app(services),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=REQUESTS_GRACE_S,
        )
    )
