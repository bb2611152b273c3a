"""A Kafka of our own: what it carries, and every way of failing to start."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from niyama.local import kafka as kafka_module
from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.kafka import LocalKafka
from niyama.local.ports import LOOPBACK
from schemas.topics import MAX_RECORD_BYTES

NEARLY_FULL_DISK = """
mount -t tmpfs -o size=20k none "$1" && exec "$2" -c '
import asyncio, pathlib, sys
from niyama.local.kafka import LocalKafka
kafka = LocalKafka(pathlib.Path(sys.argv[1]) / "kafka")
try:
    asyncio.run(kafka.start())
finally:
    asyncio.run(kafka.stop())
' "$1"
"""


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """Not started, and stopped in any case."""
    broker = LocalKafka(tmp_path / "kafka")
    yield broker
    await broker.stop()


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        size = {"max.message.bytes": str(MAX_RECORD_BYTES + 1024)}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=size)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    limit_bytes = MAX_RECORD_BYTES + 1024
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=limit_bytes) as out:
        await out.send_and_wait(topic, value)


async def receive(bootstrap: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_bytes=2**25
    )
    async with consumer, asyncio.timeout(60):
        return bytes((await consumer.getone()).value)


async def test_carries_a_record_of_the_largest_size(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    value = os.urandom(MAX_RECORD_BYTES - 1024)  # without what Kafka adds
    await create(kafka_bootstrap, topic_prefix)
    await send(kafka_bootstrap, topic_prefix, value)
    assert await receive(kafka_bootstrap, topic_prefix) == value


async def test_makes_no_topic_that_nobody_created(kafka_bootstrap: str, topic_prefix: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as out:
        out.client._request_timeout_ms = 500  # for the topic: the broker had its time
        with pytest.raises(UnknownTopicOrPartitionError):
            await out.send_and_wait(topic_prefix, b"typo")


async def test_keeps_its_log_through_a_stop_and_a_crash_and_its_port(kafka: LocalKafka) -> None:
    await kafka.start()
    bootstrap = kafka.bootstrap
    await create(bootstrap, "kept")
    await send(bootstrap, "kept", b"job")
    await kafka.stop()
    await kafka.start()
    assert kafka.bootstrap == bootstrap
    assert kafka.child
    os.kill(kafka.child.pid, signal.SIGKILL)
    assert await kafka.child.wait() == -signal.SIGKILL
    await kafka.start()
    assert await receive(kafka.bootstrap, "kept") == b"job"


async def test_a_port_in_use_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        kafka = LocalKafka(tmp_path / "kafka", port=port)
        with pytest.raises(LocalStackError, match=f"Kafka cannot use port {port} .*--kafka-port"):
            await kafka.start()
    assert not (tmp_path / "kafka").exists()


async def test_a_broker_that_dies_shows_the_end_of_its_log(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kafka_module.broker_settings
    monkeypatch.setattr(
        kafka_module, "broker_settings", lambda *at: right(*at) | {"log.segment.bytes": "wrong"}
    )
    with pytest.raises(ChildDiedError, match=r"log\.segment\.bytes"):
        await kafka.start()


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", NEARLY_FULL_DISK, "sh", tmp_path, sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"the disk of {tmp_path}/kafka is full" in done.stderr
    assert "--state" in done.stderr


def own_mounts() -> list[str]:
    """A mount namespace that ends with the command; for others than root in a user namespace."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
