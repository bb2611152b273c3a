"""The life of a gateway process: it starts, serves, and finishes what it is doing."""

import asyncio
import contextlib
import logging
import signal
import socket

import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.history_partitions import ensure_coming_days_hourly
from gateway.preparation import prepare_kafka, prepare_postgres
from gateway.replies.relay import ReplyRelay
from gateway.settings import GatewaySettings
from niyama import Producer

log = logging.getLogger(__name__)

STOP_GRACE_S = 15.0


class Gateway:
    """One gateway: the API, the ledger's consumer, the relay of replies. Made by `bootstrap`."""

    def __init__(
        self,
        settings: GatewaySettings,
        engine: AsyncEngine,
        producer: Producer,
        consumer: LedgerConsumer,
        dead_letters: DeadLetters,
        relay: ReplyRelay,
        server: uvicorn.Server,
        stopping: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._producer = producer
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._relay = relay
        self._server = server
        self._stopping = stopping
        self._prepared = False

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in progress.

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
        """Take no more requests, then end `run`. A second call drops open requests."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self._stopping.set()

    async def _work(self) -> None:
        await asyncio.gather(prepare_postgres(self._settings), prepare_kafka(self._settings))
        async with self._producer, asyncio.TaskGroup() as tasks:
            self._prepared = True
            tasks.create_task(self._consumer.run())
            tasks.create_task(self._dead_letters.run())
            tasks.create_task(self._relay.run())
            tasks.create_task(ensure_coming_days_hourly(self._settings, self._stopping))

    async def _finish(self, working: asyncio.Task[None]) -> None:
        self._consumer.stop()
        self._dead_letters.stop()
        self._relay.stop()
        if not self._prepared:
            working.cancel()  # it was waiting for Kafka or Postgres
        _, late = await asyncio.wait({working}, timeout=STOP_GRACE_S)
        if late:
            log.warning(
                "Kafka or Postgres does not answer; what is not in the ledger yet stays in the log"
            )
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await self._engine.dispose()
