"""What happens when the consumer group moves partitions; see `workers.offsets.partitions`."""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.intake.poll_loop import PollLoop
from workers.offsets.partitions import Partitions

log = logging.getLogger(__name__)


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called by aiokafka. Jobs keep running unless their partition moved to another worker."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Partitions,
        in_flight: InFlightJobs,
        executor: Executor,
        poll_loop: PollLoop,
        *,
        on_assigned: Callable[[], None],
    ) -> None:
        """`on_assigned` is called when the partitions of a new assignment can be read."""
        self._consumer = consumer
        self._partitions = partitions
        self._in_flight = in_flight
        self._executor = executor
        self._poll_loop = poll_loop
        self._on_assigned = on_assigned
        self._assigning: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def watch(self) -> None:
        """Raise the error that prevents assigned partitions from being read."""
        await self._failure

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """A rebalance starts. aiokafka waits for this, and keeps sending heartbeats."""
        if self._assigning is not None:
            self._assigning.cancel()
        await self._partitions.revoke()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """A rebalance ends. Nothing was fetched yet: aiokafka calls this before it looks up the
        offsets to start from."""
        self._consumer.pause(*assigned)
        self._assigning = asyncio.create_task(self._assign(assigned))
        self._assigning.add_done_callback(self._assigned)

    async def _assign(self, assigned: set[TopicPartition]) -> None:
        await self._partitions.assign(assigned)
        log.info("assigned %s", ", ".join(sorted(f"{t}/{p}" for t, p in assigned)) or "nothing")
        self.release_moved()
        self._poll_loop.rebalanced()
        self._on_assigned()

    def release_moved(self) -> None:
        """Stop the jobs that another worker, or this one, reads again."""
        for job in self._in_flight:
            if not self._partitions.owns(job.tracked):
                self._executor.release(job)

    def _assigned(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) and not self._failure.done():
            self._failure.set_exception(error)
