"""A gateway that is frozen while it is the relay, and one that takes over."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from gateway.settings import GatewaySettings
from niyama import kafka
from tests.support.wire import PATIENCE_S, published

NIYAMA = Path(sys.executable).with_name("niyama")
LEASE = "SELECT holder FROM leases"
"""Who had it last, though it may have ended since."""
WAITING = "SELECT count(*) FROM reply_outbox"
CONTENDERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'niyama-lease'
"""


@contextmanager
def gateway_process(settings: GatewaySettings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    names = ("kafka_bootstrap", "topic_prefix", "pool", "topic_partitions", "database_url")
    environment = {f"NIYAMA_{name.upper()}": str(getattr(settings, name)) for name in names}
    with log.open("wb") as messages:
        process = subprocess.Popen(
            [NIYAMA, "gateway", "--api-port=0"], env=os.environ | environment, stderr=messages
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def add_replies(postgres: asyncpg.Connection, topic: str, values: list[bytes]) -> None:
    await postgres.executemany(
        "INSERT INTO reply_outbox (job_id, reply_topic, value, headers) VALUES ($1, $2, $3, '[]')",
        [(uuid4(), topic, value) for value in values],
    )


@pytest.mark.usefixtures("wire")  # the topics exist
async def test_a_frozen_relay_is_replaced_and_repeats_nothing(
    settings: GatewaySettings, postgres: asyncpg.Connection, topic_prefix: str, tmp_path: Path
) -> None:
    topics = [f"niyama-replies.{topic_prefix}-{number}" for number in range(3)]
    for name in topics:
        await kafka.create_missing(settings, [kafka.new_topic(name, 1, 1)])
    values = {name: [f"{name} {number}".encode() for number in range(900)] for name in topics}

    async def add(since: int, until: int) -> None:
        for name in topics:
            await add_replies(postgres, name, values[name][since:until])

    async def until(query: str, wanted: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await postgres.fetchval(query) != wanted:
                await asyncio.sleep(0.05)

    with gateway_process(settings, tmp_path / "first.log") as relay:
        await add(0, 300)
        await until(WAITING, 0)
        holder = await postgres.fetchval(LEASE)
        with gateway_process(settings, tmp_path / "second.log"):
            await until(CONTENDERS, 2)
            await add(300, 600)
            relay.send_signal(signal.SIGSTOP)  # while it works
            await add(600, 700)
            await until(WAITING, 0)
            assert await postgres.fetchval(LEASE) != holder
            await add(700, 800)
            relay.send_signal(signal.SIGCONT)
            await add(800, 900)
            await until(WAITING, 0)

    for name in topics:
        sent = [record.value for record in await published(settings, name)]
        assert sorted(sent) == sorted(values[name])
