"""A worker's connections to Kafka."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from niyama import kafka
from workers.offsets.assignor import EvenStickyAssignor
from workers.reporting.batch_sender import BatchSender
from workers.reporting.best_effort_sender import BestEffortSender
from workers.reporting.exact_sender import ExactSender
from workers.settings import WorkerSettings
from workers.stop import shutdown_step

FETCH_WAIT_MS = 100
"""Short, because a partition that is resumed waits for the fetch in progress."""
FETCH_BYTES = 1024 * 1024
"""The limit of one partition's share; a larger record is fetched alone."""
FETCH_TOTAL_BYTES = 16 * 1024 * 1024
"""The limit of one broker's answer."""
HEARTBEATS_PER_SESSION = 5
MIN_POLL_INTERVAL_S = 300.0

BATCH_BYTES = 2 * 1024 * 1024
TOKENS_BYTES = 32 * 1024 * 1024
"""What may wait for the tokens topic."""
DEAD_LETTERS_BYTES = 32 * 1024 * 1024
EXACT_TIMEOUT_S = 30.0
"""How long a batch is tried before it is sent again, to whatever broker leads then."""
BEST_EFFORT_TIMEOUT_S = 10.0
"""How long a partition may be without a leader before its records are dropped."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Kafka clients. All are started but `jobs`, which joins the consumer group last."""

    sender: BatchSender
    admin: AIOKafkaAdminClient
    jobs: AIOKafkaConsumer
    control: AIOKafkaConsumer


async def connect(settings: WorkerSettings, stack: AsyncExitStack) -> Connections:
    """Connect to Kafka until `stack` is closed. Raises KafkaError."""
    sender = await _sender(settings, stack)
    admin = kafka.admin_client(settings)
    stack.push_async_callback(shutdown_step, admin.close)
    await admin.start()
    jobs = _jobs_consumer(settings)
    stack.push_async_callback(shutdown_step, jobs.stop)
    control = kafka.consumer(settings, settings.topics.control.name)
    stack.push_async_callback(shutdown_step, control.stop)
    await control.start()
    return Connections(sender, admin, jobs, control)


def _jobs_consumer(settings: WorkerSettings) -> AIOKafkaConsumer:
    session_ms = int(settings.session_timeout_s * 1000)
    # Nothing is polled while draining.
    poll_interval_s = max(MIN_POLL_INTERVAL_S, 2 * settings.drain_limit_s)
    return kafka.consumer(
        settings,
        group_id=settings.workers_group,
        client_id=settings.worker_id,
        partition_assignment_strategy=(EvenStickyAssignor(),),
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // HEARTBEATS_PER_SESSION,
        max_poll_interval_ms=int(poll_interval_s * 1000),
        fetch_max_wait_ms=FETCH_WAIT_MS,
        fetch_max_bytes=FETCH_TOTAL_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


async def _sender(settings: WorkerSettings, stack: AsyncExitStack) -> BatchSender:
    topics = settings.topics
    events = ExactSender(
        await _producer(settings, stack, timeout_s=EXACT_TIMEOUT_S), topics.events.name
    )
    tokens = BestEffortSender(
        await _producer(settings, stack, timeout_s=BEST_EFFORT_TIMEOUT_S, acks=1),
        topics.tokens.name,
        budget_bytes=TOKENS_BYTES,
        consequence="streams have gaps, and results are complete",
    )
    dead_letters = BestEffortSender(
        await _producer(settings, stack, timeout_s=BEST_EFFORT_TIMEOUT_S),
        topics.dead_letters.name,
        budget_bytes=DEAD_LETTERS_BYTES,
        consequence="the refused records are only in the topics that they were read from",
    )
    for sender in (events, tokens, dead_letters):
        await sender.open()
    return BatchSender(events, tokens, dead_letters)


async def _producer(
    settings: WorkerSettings,
    stack: AsyncExitStack,
    *,
    timeout_s: float,
    acks: Literal[1, "all"] = "all",
) -> AIOKafkaProducer:
    """Not idempotent: see `workers.reporting.topic_sender`."""
    producer = kafka.producer(
        settings,
        acks=acks,
        enable_idempotence=False,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=int(timeout_s * 1000),
    )
    stack.push_async_callback(shutdown_step, producer.stop)
    await producer.start()
    return producer
