"""Pauses the partitions of topics that have enough in flight, and resumes them."""

import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas import PoolTopics
from workers.execution.in_flight import InFlightJobs
from workers.intake.backpressure import ALL_CLOSED, ALL_OPEN, Limits, TopicGates, next_gates
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import BatchSender


class FlowControl:
    """Keeps the consumer's paused partitions in line with the load."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Partitions,
        in_flight: InFlightJobs,
        sender: BatchSender,
        topics: PoolTopics,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives UTC epoch seconds."""
        self._clock = clock
        self._consumer = consumer
        self._partitions = partitions
        self._in_flight = in_flight
        self._sender = sender
        self._topics = topics
        self._limits = limits
        self._gates = ALL_OPEN
        self._paused: set[TopicPartition] = set()
        self._resumed_s: dict[TopicPartition, float] = {}
        self._stopped = False

    def is_paused(self, partition: TopicPartition) -> bool:
        return partition in self._paused

    def reading_since_s(self, partition: TopicPartition) -> float:
        """Since when it has been read without a pause, in UTC epoch seconds."""
        return self._resumed_s.get(partition, 0.0)

    def takes(self, topic: str) -> bool:
        """Whether more jobs of a topic are taken now."""
        return self._is_open(self._gates)[topic]

    def update(self) -> None:
        """Follow the load. Cheap when no gate changes: call it whenever a job arrives or leaves."""
        gates = self._wanted_gates()
        if gates != self._gates:
            self._apply(gates)

    def update_partitions(self) -> None:
        """Follow the load, and whether each partition's commits fit in their metadata."""
        self._apply(self._wanted_gates())

    def rebalanced(self) -> None:
        """Partitions were assigned, all of them paused."""
        self._paused = {tp for tp, _ in self._partitions}
        self._resumed_s.clear()
        for tp in self._paused:  # again: what is counted as paused has to be
            self._consumer.pause(tp)
        self._gates = ALL_CLOSED
        self.update()

    def stop(self) -> None:
        """Pause every partition for good."""
        self._stopped = True
        self.update()

    def _wanted_gates(self) -> TopicGates:
        if self._stopped or self._sender.full:
            return ALL_CLOSED
        topics, load = self._topics, self._in_flight.load
        return next_gates(
            self._limits,
            load(topics.interactive.name),
            load(topics.batch.name),
            load(topics.relegated.name),
            self._gates,
        )

    def _apply(self, gates: TopicGates) -> None:
        self._gates = gates
        is_open = self._is_open(gates)
        for tp, progress in self._partitions:
            self._set_paused(tp, not (is_open[tp.topic] and progress.fits))

    def _is_open(self, gates: TopicGates) -> dict[str, bool]:
        return {
            self._topics.interactive.name: gates.interactive,
            self._topics.batch.name: gates.batch,
            self._topics.relegated.name: gates.relegated,
        }

    def _set_paused(self, tp: TopicPartition, paused: bool) -> None:
        if paused == (tp in self._paused):
            return
        if paused:
            self._consumer.pause(tp)
            self._paused.add(tp)
        else:
            self._consumer.resume(tp)
            self._paused.discard(tp)
            self._resumed_s[tp] = self._clock()
