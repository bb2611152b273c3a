"""FastStream's Kafka broker, reading with this project's consumers.

FastStream makes plain aiokafka consumers. Ours know every way to authenticate that the settings
know, pass over frozen brokers, and skip what cannot be decoded (`niyama.kafka.consumer`).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from faststream.kafka import KafkaBroker

from niyama import kafka
from niyama.settings import KafkaSettings

log = logging.getLogger("faststream")

_PASSED_ON = (
    "auto_offset_reset",
    "fetch_min_bytes",
    "fetch_max_wait_ms",
    "max_partition_fetch_bytes",
)
"""Of the options of a subscriber; for the others ours are better."""


class Broker(KafkaBroker):
    """Only reads: it creates no topics, and has no producer."""

    def __init__(self, settings: KafkaSettings, **options: Any) -> None:
        super().__init__(
            settings.kafka_bootstrap,
            consumer_only=True,
            logger=log,
            log_level=logging.DEBUG,
            **options,
        )
        self._settings = settings

    async def _connect(self) -> Callable[..., AIOKafkaConsumer]:
        self.config.broker_config.builder = self._consumer
        return self._consumer

    def _consumer(
        self, group_id: str | None, client_id: str | None, **options: object
    ) -> AIOKafkaConsumer:
        return kafka.consumer(
            self._settings, group_id=group_id, client_id=client_id, **_chosen(options)
        )


def _chosen(options: Mapping[str, object]) -> dict[str, object]:
    return {name: options[name] for name in _PASSED_ON if name in options}
