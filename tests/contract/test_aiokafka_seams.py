"""The private names of aiokafka that this project builds on. One that is gone fails here."""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender
from aiokafka.protocol.api import RequestStruct
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.structs import TopicPartition


def test_the_pinned_version_is_installed() -> None:
    assert version("aiokafka") == "0.14.0"


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        ("conn", "get_ip_port_afi", ["host_and_port_str"]),
        ("client", "AIOKafkaClient.send", ["self", "node_id", "request", "group"]),
        ("client", "AIOKafkaClient.bootstrap", ["self"]),
        ("client", "AIOKafkaClient.close", ["self"]),
        ("admin.client", "AIOKafkaAdminClient._send_request", ["self", "request", "node_id"]),
        ("producer.sender", "Sender.close", ["self"]),
        ("producer.message_accumulator", "MessageAccumulator._pop_batch", ["self", "tp"]),
        ("producer.message_accumulator", "MessageAccumulator.fail_all", ["self", "exception"]),
        ("producer.message_accumulator", "MessageBatch.failure", ["self", "exception"]),
        (
            "producer.transaction_manager",
            "TransactionManager.sequence_number",
            ["self", "tp"],
        ),
        ("producer.transaction_manager", "PidAndEpoch", ["pid", "epoch"]),
        ("util", "create_future", ["loop"]),
        (
            "protocol.commit",
            "OffsetCommitRequest",
            [
                *("consumer_group", "consumer_group_generation_id", "consumer_id"),
                *("retention_time", "topics"),
            ],
        ),
        ("protocol.api", "Request.build", ["self", "request_struct_class"]),
    ],
)
def test_what_we_call_takes_what_we_pass(module: str, name: str, parameters: list[str]) -> None:
    found: Any = importlib.import_module(f"aiokafka.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert list(inspect.signature(found).parameters) == parameters


@contextmanager
def _a_producer(**options: Any) -> Iterator[AIOKafkaProducer]:
    """One that is not connected."""
    producer = AIOKafkaProducer(**options)
    try:
        yield producer
    finally:
        producer._closed = True  # or it would complain that nobody stopped it


async def test_a_producer_has_what_we_reach_for() -> None:
    with _a_producer(enable_idempotence=True) as producer:
        numbers = producer._txn_manager
        part = TopicPartition("t", 0)
        assert numbers.sequence_number(part) == numbers._sequence_numbers[part] == 0
        assert numbers.producer_id == numbers._pid_and_epoch.pid
        assert not numbers._pid_waiter.done()
        assert numbers.transactional_id is None
        assert isinstance(producer._message_accumulator, MessageAccumulator)
        assert isinstance(producer._sender, Sender)
        assert producer._sender.sender_task is None  # until it is started
        assert isinstance(producer.client, AIOKafkaClient)

    with _a_producer() as producer:
        assert producer._txn_manager is None


async def test_a_batch_has_bytes_once_it_was_put_together_for_a_request() -> None:
    builder = BatchBuilder(1000, 0, is_transactional=False)
    batch = MessageBatch(TopicPartition("t", 0), builder, 1, 0)
    assert batch._builder._buffer is None
    batch.get_data_buffer()
    assert batch._builder._buffer is not None
    assert not batch.future.done()


async def test_a_consumer_knows_its_client_and_its_place_in_the_group() -> None:
    consumer = AIOKafkaConsumer(group_id="g")
    consumer._closed = True
    assert isinstance(consumer._client, AIOKafkaClient)
    assert consumer._coordinator is None  # until it is started

    module = importlib.import_module("aiokafka.consumer.group_coordinator")
    coordinator = module.GroupCoordinator(consumer._client, consumer._subscription, group_id="g")
    try:
        assert coordinator.generation < 0
        assert not coordinator.member_id
        assert coordinator.coordinator_id is None
    finally:
        await coordinator.close()


async def test_an_admin_client_has_a_client() -> None:
    assert isinstance(AIOKafkaAdminClient()._client, AIOKafkaClient)


async def test_a_client_gives_each_bootstrap_server_the_time_of_a_request() -> None:
    client = AIOKafkaClient(bootstrap_servers="a:1,b:2", request_timeout_ms=7)
    assert len(client.hosts) == 2
    assert client._request_timeout_ms == 7
    assert "request_timeout_ms=self._request_timeout_ms" in inspect.getsource(client.bootstrap)


@pytest.mark.parametrize("request_class", FetchRequest._CLASSES)
def test_the_last_field_of_a_fetched_partition_is_its_batches(
    request_class: type[RequestStruct],
) -> None:
    response = request_class.RESPONSE_TYPE.SCHEMA
    topics = response.fields[response.names.index("topics")]
    partitions = topics.array_of.fields[-1]
    assert (topics.array_of.names[-1], partitions.array_of.names[-1]) == (
        "partitions",
        "message_set",
    )


def test_a_commit_s_answer_ends_in_the_code_of_each_partition() -> None:
    for request_class in OffsetCommitRequest._CLASSES:
        response = request_class.RESPONSE_TYPE.SCHEMA
        topics = response.fields[response.names.index("topics")]
        partitions = topics.array_of.fields[-1]
        assert partitions.array_of.names == ("partition", "error_code")


def test_a_batch_of_records_has_the_header_that_we_rewrite() -> None:
    header = DefaultRecordBase.HEADER_STRUCT
    # Base offset, length, leader epoch, magic, CRC, attributes, ..., count of records.
    assert (header.format, header.size) == (">qiibIhiqqqhii", 61)
    assert (DefaultRecordBase.CRC_OFFSET, DefaultRecordBase.ATTRIBUTES_OFFSET) == (17, 21)
    used = {"validate_crc", "compression_type", "is_control_batch", "base_offset", "next_offset"}
    assert used <= set(dir(DefaultRecordBatch))
    assert DefaultRecordBatch.CODEC_MASK == 0x07
