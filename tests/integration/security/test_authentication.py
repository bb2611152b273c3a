"""Every client that we make says who it is, in every way that Kafka knows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from niyama import kafka
from niyama.log_lines import secrets_of
from niyama.logs import configure_logging
from niyama.settings import KafkaSettings
from schemas.topics import TopicSpec
from tests.support.logs import logged, restored_logging
from tests.support.secured_kafka import PASSWORD, SecuredKafka
from tests.support.token_endpoint import CLIENT_SECRET, token_endpoint, unsigned_token
from tests.support.workers import PATIENCE_S


async def use_every_client(connection: dict[str, Any], topic: str) -> None:
    """Admin, producer, transactional producer and consumer."""
    settings = KafkaSettings(**connection)
    await kafka.ensure_topics(settings, [TopicSpec(topic, 1, 3600, "")])
    async with asyncio.timeout(PATIENCE_S):
        async with kafka.producer(settings) as producer:
            await producer.send_and_wait(topic, b"one")
        transactional = kafka.producer(settings, transactional_id=topic)
        async with transactional, transactional.transaction():
            await transactional.send_and_wait(topic, b"two")
            await transactional.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(1, "")}, topic
            )
        async with kafka.consumer(settings, topic, group_id=f"{topic}-readers") as consumer:
            found = [await consumer.getone(), await consumer.getone()]
    assert [record.value for record in found] == [b"one", b"two"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_by_password(secured_kafka: SecuredKafka, topic_prefix: str, mechanism: str) -> None:
    await use_every_client(secured_kafka.with_password("admin", mechanism), topic_prefix)


async def test_by_certificate(secured_kafka: SecuredKafka, topic_prefix: str) -> None:
    await use_every_client(secured_kafka.with_certificate("admin"), topic_prefix)


async def test_by_a_token_in_a_file(
    secured_kafka: SecuredKafka, topic_prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(unsigned_token("admin"))
    await use_every_client(secured_kafka.with_token(kafka_oauth_token_file=file), topic_prefix)


async def test_by_tokens_of_an_endpoint_for_longer_than_one_of_them_lasts(
    secured_kafka: SecuredKafka, topic_prefix: str
) -> None:
    """The broker closes connections whose token has expired: clients come back with a new one."""
    with token_endpoint(lifetime_s=5) as endpoint:
        connection = secured_kafka.with_token(
            kafka_oauth_token_url=endpoint.url,
            kafka_oauth_client_id="admin",
            kafka_oauth_client_secret=CLIENT_SECRET,
        )
        await use_every_client(connection, topic_prefix)
        settings = KafkaSettings(**connection)
        before = endpoint.tokens_given
        async with (
            kafka.producer(settings) as producer,
            kafka.consumer(settings, topic_prefix) as consumer,
            asyncio.timeout(PATIENCE_S),
        ):
            while endpoint.tokens_given < before + 3:
                sent = await producer.send_and_wait(topic_prefix, b"again")
                while (await consumer.getone()).offset < sent.offset:
                    pass


@pytest.mark.parametrize("lie", [{"kafka_password": "wrong"}, {"kafka_ca_file": None}])
async def test_who_cannot_prove_it_is_not_let_in(
    secured_kafka: SecuredKafka, lie: dict[str, Any]
) -> None:
    settings = KafkaSettings(**(secured_kafka.with_password("admin") | lie))
    with pytest.raises(KafkaConnectionError):
        await kafka.probe(settings)


async def test_the_most_talkative_log_has_neither_secrets_nor_records(
    secured_kafka: SecuredKafka, topic_prefix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    password = secured_kafka.with_password("admin", "PLAIN")
    with restored_logging(), token_endpoint() as endpoint:
        token = secured_kafka.with_token(
            kafka_oauth_token_url=endpoint.url,
            kafka_oauth_client_id="admin",
            kafka_oauth_client_secret=CLIENT_SECRET,
        )
        known = [secrets_of(KafkaSettings(**connection)) for connection in (password, token)]
        configure_logging("debug", "text", set().union(*known))
        await use_every_client(password, topic_prefix)
        await use_every_client(token, f"{topic_prefix}-tokens")
        shown = logged(capfd)
    assert "aiokafka" in shown
    secrets = (PASSWORD, CLIENT_SECRET, unsigned_token("admin").partition(".")[0])
    assert [each for each in (*secrets, "b'one'", "b'two'") if each in shown] == []
