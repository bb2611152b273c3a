"""The life of a gateway process: it starts, serves, and finishes what it is doing."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import uvicorn
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.maintenance import maintain
from gateway.preparation import prepare_kafka, prepare_postgres
from gateway.settings import GatewaySettings
from niyama import Producer
from niyama.logs import Throttle
from niyama.retry import RETRY_INTERVAL_S, retry
from niyama.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

STOP_GRACE_S = 10.0
"""For the parts to finish what they are doing, once no more requests are served."""
CANCEL_GRACE_S = 2.0
"""For a part that had to be cancelled, and for the pool's connections to be closed."""


class Part(Protocol):
    """Something that works beside the API once what it needs is prepared."""

    async def run(self) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """End `run` soon."""


class Gateway:
    """One gateway: the API, and the parts that keep the ledger. Made by `bootstrap`."""

    def __init__(
        self,
        settings: GatewaySettings,
        engine: AsyncEngine,
        producer: Producer,
        parts: Mapping[str, Part],
        without_postgres: Mapping[str, Part],
        server: uvicorn.Server,
        stopping: asyncio.Event,
        telemetry: Telemetry,
    ) -> None:
        """`parts` are named as in "the ledger failed"; those `without_postgres` need only Kafka."""
        self._settings = settings
        self._engine = engine
        self._producer = producer
        self._parts = parts
        self._without_postgres = without_postgres
        self._server = server
        self._stopping = stopping
        self._telemetry = telemetry
        self._prepared = False

    async def run(self, listener: socket.socket) -> bool:
        """Serve until SIGTERM or SIGINT, then finish what is in progress.

        The API answers from the first moment, and takes jobs as soon as Kafka does; what is
        missing is waited for. Returns whether every part has ended: one that waits for a Kafka or
        Postgres that never answers is left behind. Raises ConfigurationError or UnavailableError
        for what waiting does not cure.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        working = asyncio.create_task(self._work())
        await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        self.stop()
        await serving
        return await self._finish(working)

    def stop(self) -> None:
        """Take no more requests, then end `run`. A second call drops open requests."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self._stopping.set()

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            kafka = asyncio.ensure_future(self._connect_producer(stack))
            await together(self._work_without_postgres(kafka), self._work_with_both(kafka))

    async def _work_without_postgres(self, kafka: Awaitable[None]) -> None:
        await kafka
        await together(*self._running(self._without_postgres))

    async def _work_with_both(self, kafka: Awaitable[None]) -> None:
        # Shielded: an error about Postgres is told as such, and not as a cancelled connection.
        await together(asyncio.shield(kafka), prepare_postgres(self._settings))
        self._prepared = True
        await together(
            *self._running(self._parts),
            keep_running(self._maintain, "maintenance", self._stopping),
        )

    def _running(self, parts: Mapping[str, Part]) -> list[Awaitable[None]]:
        return [keep_running(part.run, name, self._stopping) for name, part in parts.items()]

    async def _connect_producer(self, stack: AsyncExitStack) -> None:
        """From here on jobs are taken, whatever becomes of Postgres."""
        await prepare_kafka(self._settings)
        await retry(
            lambda: stack.enter_async_context(self._producer),
            KafkaError,
            notice="no job can be taken yet",
            log=log,
        )

    async def _maintain(self) -> None:
        await maintain(self._settings, self._stopping)

    async def _finish(self, working: asyncio.Task[None]) -> bool:
        for part in (*self._parts.values(), *self._without_postgres.values()):
            part.stop()
        if not self._prepared:
            working.cancel()  # it was waiting for Kafka or Postgres
        await asyncio.wait({working}, timeout=STOP_GRACE_S)
        if not working.done():
            log.warning(
                "Kafka or Postgres does not answer; what is not in the ledger yet stays in the log"
            )
            working.cancel()
            await asyncio.wait({working}, timeout=CANCEL_GRACE_S)
        await asyncio.gather(self._disconnect(), asyncio.to_thread(self._telemetry.close))
        if not working.done():
            return False
        with contextlib.suppress(asyncio.CancelledError):
            working.result()
        return True

    async def _disconnect(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE_S):
                await self._engine.dispose()


async def keep_running(
    run: Callable[[], Awaitable[None]], name: str, stopping: asyncio.Event
) -> None:
    """Call `run` until it returns: again after any error, unless the gateway is `stopping`.

    What is expected to fail is dealt with in `run`. An error that comes out is a defect, which one
    part survives no better if it takes the API and the other parts along.
    """
    throttle = Throttle()
    while True:
        try:
            await run()
            return
        except Exception:
            throttle.exception(log, "%s failed; starting it again", name)
        if stopping.is_set():
            return
        await asyncio.sleep(RETRY_INTERVAL_S)


async def together(*parts: Awaitable[None]) -> None:
    """Return when all have; when one fails, end the others and raise its error."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
