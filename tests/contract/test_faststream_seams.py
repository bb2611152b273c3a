"""The private names of FastStream that this project builds on. One that is gone fails here."""

from importlib.metadata import version

from aiokafka import AIOKafkaConsumer

from gateway.fleet.application import load_broker
from gateway.fleet.known import KnownWorkers
from niyama.settings import KafkaSettings


def test_the_pinned_version_is_installed() -> None:
    assert version("faststream") == "0.7.8"


async def test_its_subscribers_read_with_our_consumers() -> None:
    """`Broker._connect` replaces what `KafkaBroker._connect` would return and keep."""
    broker = load_broker(KafkaSettings(), KnownWorkers())
    await broker.connect()
    (subscriber,) = broker.subscribers
    consumer = subscriber.builder(
        group_id=subscriber.group_id,
        client_id=subscriber.client_id,
        **subscriber._connection_args,
    )
    assert isinstance(consumer, AIOKafkaConsumer)
    assert consumer._client.bootstrap.__qualname__.startswith("pass_over_frozen_servers")
    assert consumer._group_id is None
    assert consumer._auto_offset_reset == "earliest"
    assert consumer._isolation_level == "read_committed"
    assert consumer._max_partition_fetch_bytes == 256 * 1024
    await consumer.stop()
    await broker.stop()
