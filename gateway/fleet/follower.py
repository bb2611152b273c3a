"""Follows the workers' load reports for as long as the gateway runs."""

import asyncio
import logging

from aiokafka.errors import KafkaError
from faststream import FastStream

from gateway.fleet.fleet import Fleet
from niyama.retry import retry

log = logging.getLogger(__name__)


class LoadFollower:
    """Starts the application as soon as Kafka answers. Nothing waits for it."""

    def __init__(self, application: FastStream, fleet: Fleet) -> None:
        self._application = application
        self._fleet = fleet
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow until `stop`. Kafka may come and go."""
        try:
            await retry(self._start, KafkaError, notice="load reports cannot be read yet", log=log)
            self._fleet.following = True
            await self._stopping.wait()
        finally:
            self._fleet.following = False
            await self._application.stop()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    async def _start(self) -> None:
        if self._stopping.is_set():
            return
        try:
            await self._application.start()
        except KafkaError:
            await self._application.stop()
            raise
