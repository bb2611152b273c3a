"""Real workers on the real Kafka, in this process, with an engine whose pace the test sets."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from niyama import JobRequest, Producer, kafka
from schemas import EventType, JobEvent, TokenChunk
from workers.engine.null import NullEngine
from workers.engine.port import GenerationUpdate, PreparedRequest
from workers.health import Health
from workers.settings import WorkerSettings
from workers.stop import Stop
from workers.worker import Worker

PATIENCE_S = 40.0


class GatedEngine(NullEngine):
    """Generates at once, except for jobs whose prompt names a gate that is still shut."""

    def __init__(self) -> None:
        super().__init__("null", token_delay_s=0.001)
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: list[str] = []
        self._prompts: dict[str, str] = {}

    async def prepare(self, request: Any) -> PreparedRequest:
        self._prompts[request.request_id] = request.prompt or ""
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        prompt = self._prompts[prepared.request_id]
        self.seen.append(prompt)
        if prompt.startswith("unstarted"):
            await self.gates[prompt].wait()
        async for update in super().generate(prepared):
            if prompt.startswith("gate") and update.completion_tokens == 1:
                yield update
                await self._gate(prepared.request_id, prompt)
            else:
                yield update

    async def _gate(self, request_id: str, prompt: str) -> None:
        while not self.gates[prompt].is_set() and request_id not in self._aborted:
            await asyncio.sleep(0.005)


@dataclass
class RunningWorker:
    """A worker in a task of this process."""

    task: "asyncio.Task[None]"
    stop: Stop
    health: Health
    engine: NullEngine

    async def drain(self) -> None:
        """What SIGTERM does."""
        self.stop.request()
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def end_at_once(self) -> None:
        """What a second SIGTERM does."""
        self.stop.request()
        self.stop.request()
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)


@dataclass
class Scene:
    """Topics of the test's own, a producer, and everything that workers report."""

    settings: WorkerSettings
    producer: Producer
    stack: AsyncExitStack
    consumer: AIOKafkaConsumer
    events: list[JobEvent] = field(default_factory=list)
    event_records: list[Any] = field(default_factory=list)
    chunks: list[TokenChunk] = field(default_factory=list)
    dead_letters: list[Any] = field(default_factory=list)

    async def worker(self, engine: NullEngine | None = None, **changes: Any) -> RunningWorker:
        """Start a worker; returns once it has its partitions."""
        settings = self.settings.model_copy(update=changes)
        engine, health, stop = engine or GatedEngine(), Health(engine=True), Stop()
        task = asyncio.create_task(Worker(settings, engine, health).run(stop))
        running = RunningWorker(task, stop, health, engine)
        self.stack.push_async_callback(_end, running)
        while not health.ready and not task.done():
            await asyncio.sleep(0.02)
        if task.done():
            task.result()
        return running

    async def publish(self, prompt: str = "hello", qos: str = "chat", **fields: Any) -> UUID:
        """Publish a job; its id."""
        job = JobRequest(**({"model": "null", "qos": qos, "max_tokens": 4} | fields), prompt=prompt)
        return (await self.producer.publish(job)).job_id

    async def send(self, value: bytes | None, **options: Any) -> None:
        """Publish any bytes as a job."""
        topic = self.settings.topics.interactive.name
        options = {"key": b"k", "partition": 0} | options
        await self.producer._kafka.send_and_wait(topic, value, **options)

    def of(self, job_id: UUID) -> list[JobEvent]:
        return [event for event in self.events if event.job_id == job_id]

    def types(self, job_id: UUID) -> list[EventType]:
        return [event.type for event in self.of(job_id)]

    def ended(self, job_id: UUID) -> JobEvent | None:
        """The first terminal event."""
        return next((event for event in self.of(job_id) if event.type.is_terminal), None)

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
        return next(event for event in self.of(job_id) if event.type is kind)

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


async def _end(worker: RunningWorker) -> None:
    if not worker.task.done():
        worker.stop.request()
        worker.stop.request()
    await asyncio.wait([worker.task])
    await worker.engine.close()


@pytest.fixture
def worker_settings(kafka_bootstrap: str, topic_prefix: str, pool: str) -> WorkerSettings:
    return WorkerSettings(
        kafka_bootstrap=kafka_bootstrap,
        topic_prefix=topic_prefix,
        pool=pool,
        topic_partitions=3,
        engine="null",
        model="null",
        session_timeout_s=6,
        commit_interval_s=0.05,
        sglang_arguments=[],
    )


@pytest_asyncio.fixture
async def scene(worker_settings: WorkerSettings) -> AsyncIterator[Scene]:
    topics = worker_settings.topics
    await kafka.ensure_topics(worker_settings, topics.all)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(worker_settings))
        reported = (topics.events, topics.tokens, topics.dead_letters)
        consumer = kafka.consumer(worker_settings, *(spec.name for spec in reported))
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        yield Scene(worker_settings, producer, stack, consumer)


def as_bytes(**fields: Any) -> bytes:
    return json.dumps({"schema_version": 1, **fields}).encode()
