"""A gateway that is frozen for longer than its session, in the middle of a transaction."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import asyncpg

from gateway.settings import GatewaySettings
from tests.support.consuming import consuming
from tests.support.wire import PATIENCE_S, Wire

REPOSITORY = Path(__file__).parents[3]
ENDED = "SELECT count(*) = $1 FROM jobs WHERE status = 'completed'"


async def publish(wire: Wire, count: int) -> list[UUID]:
    jobs = [await wire.job() for _ in range(count)]
    for job_id in jobs:
        await wire.event(job_id, "relegated")
        await wire.event(job_id, "completed")
    return jobs


async def test_others_take_over_from_a_frozen_gateway_and_it_repeats_nothing(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    await publish(wire, 6)
    given = settings.model_dump(include={"kafka_bootstrap", "topic_prefix", "pool", "database_url"})
    variables = {f"NIYAMA_{name.upper()}": value for name, value in given.items()}
    command = [sys.executable, "-m", "tests.support.freezing_consumer"]
    frozen = subprocess.Popen(command, env=os.environ | variables, cwd=REPOSITORY)
    try:
        stopped = asyncio.to_thread(os.waitpid, frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED((await asyncio.wait_for(stopped, PATIENCE_S))[1])

        async with consuming(settings):
            await wire.until(ENDED, 6)
            frozen.send_signal(signal.SIGCONT)
            await publish(wire, 6)
            await wire.until(ENDED, 12)
            await wire.until_all_is_read()
            assert frozen.poll() is None  # it goes on, too
    finally:
        frozen.kill()
        frozen.wait()

    counts = await postgres.fetchrow("SELECT sum(relegations), sum(terminal_events) FROM jobs")
    assert tuple(counts) == (12, 12)
    assert await postgres.fetchval("SELECT count(*) FROM job_events") == 24
