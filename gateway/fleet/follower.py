"""Follows the workers' load reports for as long as the gateway runs."""

import asyncio
import logging

from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from niyama.retry import retry

log = logging.getLogger(__name__)


class LoadFollower:
    """Starts a broker as soon as Kafka answers. Nothing waits for it."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker = broker
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow until `stop`. Kafka may come and go."""
        try:
            await retry(self._start, KafkaError, notice="load reports cannot be read yet", log=log)
            await self._stopping.wait()
        finally:
            await self._broker.stop()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    async def _start(self) -> None:
        if self._stopping.is_set():
            return
        try:
            await self._broker.start()
        except KafkaError:
            await self._broker.stop()
            raise
