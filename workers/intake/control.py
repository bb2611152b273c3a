"""The control topic. Every worker reads all of it: a cancellation may concern any of them."""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

from schemas import JobControl, JobError
from schemas.decode import decode_control
from workers.intake.cancellations import Cancellations

log = logging.getLogger(__name__)

POLL_MS = 1000


class ControlReader:
    """Feeds `Cancellations`, and calls `on_cancel` for each request.

    The consumer must be started, without a group, at the beginning of the control topic.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        cancellations: Cancellations,
        on_cancel: Callable[[JobControl], None],
    ) -> None:
        self._consumer = consumer
        self._cancellations = cancellations
        self._on_cancel = on_cancel

    async def catch_up(self) -> None:
        """Read up to the current end of the topic. No job may be taken before this returns."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
            await self._poll()
        log.info("read %d cancellations", len(self._cancellations))

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            await self._poll()

    async def _poll(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                if record.value is not None:  # a tombstone in a compacted topic
                    self._read(record.value)
                await asyncio.sleep(0)  # there may be very many

    def _read(self, value: bytes) -> None:
        request = decode_control(value)
        if isinstance(request, JobError):
            log.warning("ignored a control record: %s", request.message)
        else:
            self._cancellations.add(request)
            self._on_cancel(request)
