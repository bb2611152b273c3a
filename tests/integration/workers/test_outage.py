"""Kafka is not up yet, or goes down for a while. The broker is the test's own."""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from niyama.local.kafka import LocalKafka
from niyama.local.ports import free_port
from schemas import EventType
from tests.support.workers import PATIENCE_S, Harness, telemetry_of
from workers.bootstrap import run_worker
from workers.engine.null import NullEngine
from workers.health import Health
from workers.settings import WorkerSettings
from workers.stop import Stop


@pytest.fixture
def session_timeout_s() -> int:
    """The least that brokers allow: the outage lasts longer."""
    return 6


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    kafka = LocalKafka(tmp_path / "kafka", port=free_port())
    try:
        yield kafka
    finally:
        await kafka.stop()


@pytest.fixture
def kafka_bootstrap(broker: LocalKafka) -> str:
    return broker.bootstrap


async def test_a_worker_waits_for_kafka_and_can_be_stopped_meanwhile(
    worker_settings: WorkerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    stop = Stop()
    with caplog.at_level(logging.WARNING, "niyama"):
        running = asyncio.create_task(
            run_worker(
                worker_settings,
                NullEngine(),
                Health(engine=True),
                stop,
                telemetry_of(worker_settings),
            )
        )
        async with asyncio.timeout(PATIENCE_S):
            while "waiting for Kafka" not in caplog.text:
                await asyncio.sleep(0.05)
        stop.request()
        await asyncio.wait_for(running, 60)
    assert worker_settings.kafka_bootstrap in caplog.text
    assert "NIYAMA_KAFKA_BOOTSTRAP" in caplog.text


@pytest_asyncio.fixture
async def started(broker: LocalKafka) -> LocalKafka:
    await broker.start()
    return broker


# aiokafka leaks connections when it is cancelled while it opens them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_kafka_gone_past_the_session_timeout_loses_nothing(
    started: LocalKafka, harness: Harness
) -> None:
    worker = await harness.worker()
    before = [await harness.publish("gate") for _ in range(10)]
    done = [await harness.publish() for _ in range(10)]
    await harness.until_ended(*done)
    await harness.until(lambda: worker.engine.seen.count("gate") == 10, "ten jobs to run")
    await started.stop()
    worker.engine.gates["gate"].set()  # they finish while nothing can be reported
    await asyncio.sleep(8)
    assert not worker.task.done()
    await started.start()
    after = [await harness.publish() for _ in range(10)]
    ended = await harness.until_ended(*before, *after)
    assert {event.type for event in ended} == {EventType.COMPLETED}
    await harness.settle(0.5)
    completions = Counter(e.job_id for e in harness.events if e.type is EventType.COMPLETED)
    assert set(completions.values()) == {1}
    assert {event.attempt for event in ended} == {1}
    await worker.drain()
    gc.collect()
