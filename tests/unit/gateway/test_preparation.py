"""What a gateway waits for before it works, and what it does not wait for."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from gateway import database, preparation
from gateway.ledger import maintenance
from gateway.ledger.maintenance import maintain
from gateway.preparation import prepare_kafka, prepare_postgres
from gateway.settings import GatewaySettings
from niyama import KafkaSettings, kafka
from niyama.errors import UnavailableError
from schemas import TopicSpec


@pytest.fixture(autouse=True)
def _schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres that answers, and has the schema."""

    async def nothing(_: GatewaySettings) -> None:
        pass

    monkeypatch.setattr(database, "wait_for_postgres", nothing)
    monkeypatch.setattr(preparation, "check_schema", nothing)


async def test_a_topic_for_load_reports_that_is_refused_costs_only_these(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needed = []

    async def prepare_topics(_: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
        needed.extend(specs)

    async def refuse(_: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
        raise UnavailableError(f"Kafka does not create {specs[0].name}: not authorized")

    monkeypatch.setattr(kafka, "prepare_topics", prepare_topics)
    monkeypatch.setattr(kafka, "ensure_topics", refuse)
    settings = GatewaySettings()

    await prepare_kafka(settings)

    assert {*needed, settings.topics.load} == set(settings.topics.all)
    assert "niyama.load: not authorized" in caplog.text


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_partition_that_cannot_be_made_does_not_keep_the_ledger_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    async def ensure_coming_days(_: GatewaySettings) -> None:
        if hangs:
            await asyncio.Event().wait()
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    monkeypatch.setattr(preparation, "ensure_coming_days", ensure_coming_days)
    monkeypatch.setattr(preparation, "PARTITIONS_TIMEOUT_S", 0.01)

    await asyncio.wait_for(prepare_postgres(GatewaySettings()), 60)

    assert "events go to the default partition" in caplog.text


async def test_maintenance_that_fails_is_tried_again_and_the_rest_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping = asyncio.Event()
    done = []

    async def ensure_coming_days(_: GatewaySettings) -> None:
        done.append("partitions")
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    async def delete_orphans(_: GatewaySettings) -> None:
        done.append("orphans")
        if done.count("orphans") == 2:
            stopping.set()

    monkeypatch.setattr(maintenance, "ensure_coming_days", ensure_coming_days)
    monkeypatch.setattr(maintenance, "delete_orphans", delete_orphans)
    monkeypatch.setattr(maintenance, "RETRY_S", 0.0)

    await asyncio.wait_for(maintain(GatewaySettings(), stopping), 60)

    assert done == ["partitions", "orphans"] * 2
