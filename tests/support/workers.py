"""Real workers on the real Kafka, in this process."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer

from niyama import JobRequest, Producer
from niyama.kafka import ConsumedRecord
from niyama.telemetry.telemetry import Telemetry
from schemas import EventType, JobEvent, QosTargets, TokenChunk
from tests.support.engines import GatedEngine
from workers.bootstrap import run_worker
from workers.engine.null import NullEngine
from workers.health import Health
from workers.settings import WorkerSettings
from workers.stop import Stop

PATIENCE_S = 120.0

EngineT = TypeVar("EngineT", bound=NullEngine)


def telemetry_of(settings: WorkerSettings) -> Telemetry:
    """What `niyama worker` makes before it starts its worker."""
    return Telemetry(settings, "niyama-worker", settings.pool, settings.worker_id)


@dataclass
class RunningWorker(Generic[EngineT]):
    """A worker in a task of this process."""

    task: "asyncio.Task[None]"
    stop: Stop
    health: Health
    engine: EngineT

    async def drain(self) -> None:
        """What SIGTERM does."""
        self.stop.request()
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def stop_immediately(self) -> None:
        """What a second SIGTERM does."""
        self.stop.request()
        self.stop.request()
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def close(self) -> None:
        """Stop it, whatever state it is in."""
        if not self.task.done():
            self.stop.request()
            self.stop.request()
        await asyncio.wait([self.task])
        await self.engine.close()


@dataclass
class Harness:
    """Topics of the test's own, a producer, and everything that workers report."""

    settings: WorkerSettings
    producer: Producer
    stack: AsyncExitStack
    consumer: AIOKafkaConsumer
    events: list[JobEvent] = field(default_factory=list)
    event_records: list[ConsumedRecord] = field(default_factory=list)
    chunks: list[TokenChunk] = field(default_factory=list)
    dead_letters: list[ConsumedRecord] = field(default_factory=list)

    # ---- workers

    async def worker(self, **changes: Any) -> RunningWorker[GatedEngine]:
        """Start a worker with these changes to the settings; returns once it has partitions."""
        return await self.worker_on(GatedEngine(), **changes)

    async def worker_on(self, engine: EngineT, **changes: Any) -> RunningWorker[EngineT]:
        """Start a worker on an engine of the test's own."""
        settings = self.settings.model_copy(update=changes)
        health, stop = Health(engine=True), Stop()
        telemetry = telemetry_of(settings)
        self.stack.callback(telemetry.close)
        task = asyncio.create_task(run_worker(settings, engine, health, stop, telemetry))
        running = RunningWorker(task, stop, health, engine)
        self.stack.push_async_callback(running.close)
        while not health.ready and not task.done():
            await asyncio.sleep(0.02)
        if task.done():
            task.result()
        return running

    # ---- jobs

    async def publish(
        self, prompt: str | None = "hello", qos: str | QosTargets = "chat", **fields: Any
    ) -> UUID:
        """Publish a job; its id."""
        job = JobRequest(**({"model": "null", "qos": qos, "max_tokens": 4} | fields), prompt=prompt)
        return (await self.producer.publish(job)).job_id

    async def send(self, value: bytes | None, **options: Any) -> None:
        """Publish any bytes as a job."""
        options = {"key": b"k", "partition": 0} | options
        await self._send(self.settings.topics.interactive.name, value, **options)

    async def send_control(self, value: bytes | None) -> None:
        """Publish any bytes as a cancellation."""
        await self._send(self.settings.topics.control.name, value, key=b"k")

    async def _send(self, topic: str, value: bytes | None, **options: Any) -> None:
        await self.producer._kafka.send(topic, value, **options)

    # ---- reports

    def events_of(self, job_id: UUID) -> list[JobEvent]:
        return [event for event in self.events if event.job_id == job_id]

    def types(self, job_id: UUID) -> list[EventType]:
        return [event.type for event in self.events_of(job_id)]

    def ended(self, job_id: UUID) -> JobEvent | None:
        """The first terminal event."""
        return next((event for event in self.events_of(job_id) if event.type.is_terminal), None)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Read reports until something holds."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    await self.read(timeout_ms=100)
        except TimeoutError:
            seen = [(str(event.job_id)[-4:], event.type.value) for event in self.events]
            pytest.fail(f"not within {PATIENCE_S} s: {what}; seen: {seen[-40:]}")

    async def until_type(self, job_id: UUID, kind: EventType) -> JobEvent:
        await self.until(lambda: kind in self.types(job_id), f"{kind} of {job_id}")
        return next(event for event in self.events_of(job_id) if event.type is kind)

    async def until_ended(self, *job_ids: UUID) -> list[JobEvent]:
        await self.until(lambda: all(map(self.ended, job_ids)), "the end of all jobs")
        return [event for event in map(self.ended, job_ids) if event]

    async def read(self, timeout_ms: int = 0) -> None:
        topics = self.settings.topics
        for tp, records in (await self.consumer.getmany(timeout_ms=timeout_ms)).items():
            for record in records:
                if tp.topic == topics.events.name:
                    self.events.append(JobEvent.model_validate_json(record.value))
                    self.event_records.append(record)
                elif tp.topic == topics.tokens.name:
                    self.chunks.append(TokenChunk.model_validate_json(record.value))
                else:
                    self.dead_letters.append(record)

    async def settle(self, seconds: float) -> None:
        """Give what should not happen the time to happen."""
        end_s = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end_s:
            await self.read(timeout_ms=50)
