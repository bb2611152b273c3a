"""A broker that takes records, for producers without sockets."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.protocol.metadata import MetadataResponse_v4
from aiokafka.protocol.produce import ProduceRequest

from niyama import kafka
from niyama.settings import KafkaSettings

TOPIC = "jobs"
FIRST_OFFSET = 7
REFRESH_S = 0.1


class ProducingBroker:
    """The only one of its cluster, which has one topic with one partition."""

    def __init__(self) -> None:
        self.produce_code = 0
        """The error that it answers to records. 0: it takes them."""
        self.producer_id_code = 0
        """The error that it answers to a producer that asks for an id."""
        self.frozen = False
        """It answers nothing."""

    def producer(self) -> AIOKafkaProducer:
        """Ours, with this broker in place of a connection. Not started."""
        producer = kafka.producer(KafkaSettings())
        client = producer.client
        client.bootstrap = client.force_metadata_update = self._refresh(producer)
        client.send = self._answer
        return producer

    @staticmethod
    def _refresh(producer: AIOKafkaProducer) -> Any:
        topics = [(0, TOPIC, False, [(0, 0, 0, [0], [0])])]
        brokers = [(0, "localhost", 9092, None)]

        async def refresh() -> bool:
            await asyncio.sleep(REFRESH_S)
            producer.client.cluster.update_metadata(
                MetadataResponse_v4(0, brokers, "cluster", 0, topics)
            )
            return True

        return lambda: asyncio.ensure_future(refresh())

    async def _answer(self, node: int, request: Any, **_: Any) -> SimpleNamespace:
        if self.frozen:
            await asyncio.Event().wait()
        if isinstance(request, ProduceRequest):
            partition = (0, self.produce_code, FIRST_OFFSET, -1, 0)
            return SimpleNamespace(API_VERSION=7, topics=[(TOPIC, [partition])])
        return SimpleNamespace(error_code=self.producer_id_code, producer_id=1, producer_epoch=0)
