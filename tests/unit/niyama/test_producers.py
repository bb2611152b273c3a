"""A producer outlives the end of aiokafka's sender, and waits for nothing without a bound."""

import asyncio

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    RequestTimedOutError,
)

from niyama import producers
from niyama.producers import LastingProducer
from tests.support.producing_broker import FIRST_OFFSET, TOPIC, ProducingBroker
from tests.support.virtual_time import run_in_virtual_time


@pytest.fixture
def broker() -> ProducingBroker:
    return ProducingBroker()


async def _lose_producer_id(broker: ProducingBroker, producer: LastingProducer) -> None:
    """A batch fails such that the producer has to ask for another id."""
    broker.produce_code = OutOfOrderSequenceNumber.errno
    with pytest.raises(OutOfOrderSequenceNumber):
        await producer.send(TOPIC, b"x")
    broker.produce_code = 0


def test_a_producer_whose_sender_has_ended_is_replaced(broker: ProducingBroker) -> None:
    async def check() -> None:
        async with LastingProducer(broker.producer) as producer:
            broker.producer_id_code = RequestTimedOutError.errno  # the controller is away
            await _lose_producer_id(broker, producer)
            while producer.connected:
                with pytest.raises(KafkaError):
                    await producer.send(TOPIC, b"x")
            with pytest.raises(KafkaConnectionError, match="reconnecting"):
                await producer.send(TOPIC, b"x")

            broker.producer_id_code = 0
            while not producer.connected:
                await asyncio.sleep(1)
            assert (await producer.send(TOPIC, b"x")).offset == FIRST_OFFSET

    run_in_virtual_time(check())


def test_what_keeps_a_producer_from_being_replaced_is_tried_again(
    broker: ProducingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with LastingProducer(broker.producer) as producer:
            monkeypatch.setattr(producers, "disconnect", fail_once)
            broker.producer_id_code = RequestTimedOutError.errno
            await _lose_producer_id(broker, producer)
            while producer.connected:
                await asyncio.sleep(1)
            broker.producer_id_code = 0
            while not producer.connected:
                await asyncio.sleep(1)

    async def fail_once(*_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("unexpected")

    run_in_virtual_time(check())


def test_a_producer_that_loses_its_id_goes_on_under_another(broker: ProducingBroker) -> None:
    async def check() -> None:
        async with LastingProducer(broker.producer) as producer:
            await _lose_producer_id(broker, producer)
            assert (await producer.send(TOPIC, b"x")).offset == FIRST_OFFSET
            assert producer.connected

    run_in_virtual_time(check())


def test_a_producer_can_be_left_while_it_is_replaced(broker: ProducingBroker) -> None:
    async def check() -> None:
        async with LastingProducer(broker.producer) as producer:
            broker.producer_id_code = RequestTimedOutError.errno
            await _lose_producer_id(broker, producer)
            while producer.connected:
                await asyncio.sleep(1)

    run_in_virtual_time(check())


def test_no_record_waits_without_end_and_a_frozen_broker_holds_no_producer(
    broker: ProducingBroker,
) -> None:
    async def check() -> None:
        now_s = asyncio.get_running_loop().time
        async with LastingProducer(broker.producer) as producer:
            broker.frozen = True
            began_s = now_s()
            with pytest.raises(KafkaTimeoutError):
                await producer.send(TOPIC, b"x")
            assert now_s() - began_s == producers.SEND_TIMEOUT_S
        assert now_s() - began_s < producers.SEND_TIMEOUT_S + producers.FLUSH_TIMEOUT_S + 5

    run_in_virtual_time(check())
