"""What a gateway waits for before it works, and what it does not wait for."""

import asyncio

import asyncpg
import pytest

from gateway import database, preparation
from gateway.ledger import maintenance
from gateway.ledger.maintenance import maintain
from gateway.preparation import prepare_postgres
from gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def _schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres that answers, and has the schema."""

    async def nothing(_: GatewaySettings) -> None:
        pass

    monkeypatch.setattr(database, "wait_for_postgres", nothing)
    monkeypatch.setattr(preparation, "check_schema", nothing)


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
