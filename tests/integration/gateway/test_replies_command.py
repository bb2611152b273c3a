"""Undeliverable replies: what the API and `niyama replies` show, and how they are retried."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import StringIO
from uuid import UUID, uuid4

import asyncpg
import pytest
from rich.console import Console

from gateway.api import views
from gateway.database import engine
from gateway.ledger.queries import Ledger
from gateway.ledger.reply_state import ReplyState
from gateway.replies import lease, undeliverable
from gateway.replies.command import show
from gateway.replies.lease import Lease
from gateway.replies.undeliverable import Selection, drop, retry
from gateway.settings import GatewaySettings

_JOB = """
INSERT INTO jobs (job_id, status, arrived_at, reply_topic, attempt, newest_attempt, relegations,
    parks, terminal_events, finished_at)
VALUES ($1, 'completed', now(), $2, 1, 1, 0, 0, 1, now())
"""
_REPLY = """
INSERT INTO reply_outbox (job_id, reply_topic, value, headers, undeliverable_at, error)
VALUES ($1, $2, '', '[]', $3, $4)
"""


@pytest.fixture
async def ledger(settings: GatewaySettings) -> AsyncIterator[Ledger]:
    database = engine(settings, 1)
    yield Ledger(database)
    await database.dispose()


async def add_job(postgres: asyncpg.Connection, topic: str | None) -> UUID:
    job_id = uuid4()
    await postgres.execute(_JOB, job_id, topic)
    return job_id


async def add_undeliverable(postgres: asyncpg.Connection, topic: str, error: str) -> UUID:
    job_id = await add_job(postgres, topic)
    await postgres.execute(_REPLY, job_id, topic, datetime.now(UTC), error)
    return job_id


async def add_failing(postgres: asyncpg.Connection, topic: str, error: str) -> UUID:
    job_id = await add_job(postgres, topic)
    await postgres.execute(_REPLY, job_id, topic, None, None)
    await postgres.execute(
        "INSERT INTO failing_reply_topics VALUES ($1, now(), 3, now() + interval '1 hour', $2)",
        *(topic, error),
    )
    return job_id


async def printed(postgres: asyncpg.Connection, topic: str | None = None) -> str:
    text = StringIO()
    await show(postgres, topic, 50, Console(file=text, highlight=False, width=80))
    return text.getvalue()


async def test_the_api_shows_what_became_of_a_reply(
    postgres: asyncpg.Connection, ledger: Ledger
) -> None:
    jobs = [
        await add_job(postgres, "a"),
        await add_failing(postgres, "b", "partition 0 has no leader"),
        await add_undeliverable(postgres, "c", "not allowed"),
        await add_job(postgres, None),
    ]
    shown = []
    for job_id in jobs:
        record = await ledger.record(job_id)
        assert record is not None
        reply = views.detailed(record, datetime.now(UTC)).reply
        shown.append(reply and (reply.topic, reply.state.value, reply.error))

    assert shown == [
        ("a", "sent", None),
        ("b", "pending", "partition 0 has no leader"),
        ("c", "undeliverable", "not allowed"),
        None,
    ]


async def test_the_list_has_what_fails_and_what_was_given_up(postgres: asyncpg.Connection) -> None:
    assert await printed(postgres) == "no reply topic is failing, and no reply is undeliverable\n"
    await add_failing(postgres, "slow", "partition 0 has no leader")
    job_id = await add_undeliverable(postgres, "bad", "[bold]not allowed")

    everything = await printed(postgres)
    assert "  slow  1 waiting, failing for " in everything
    assert "    partition 0 has no leader\n" in everything
    assert f"  {job_id}  bad\n    [bold]not allowed\n" in everything
    assert "slow" not in await printed(postgres, "bad")


async def test_retry_takes_all_a_topic_or_some_jobs(postgres: asyncpg.Connection) -> None:
    first, second, third = [await add_undeliverable(postgres, name, "e") for name in "aab"]
    await add_failing(postgres, "b", "partition 0 has no leader")
    waiting = "SELECT job_id FROM reply_outbox WHERE undeliverable_at IS NULL AND error IS NULL"

    assert await retry(postgres, Selection("b", [first])) == 0  # its topic is another one
    assert not await postgres.fetchval("SELECT count(*) FROM failing_reply_topics")
    assert await retry(postgres, Selection(job_ids=[first])) == 1
    assert first in {row["job_id"] for row in await postgres.fetch(waiting)}
    assert await retry(postgres, Selection("a")) == 1
    assert await retry(postgres, Selection()) == 1
    assert {first, second, third} <= {row["job_id"] for row in await postgres.fetch(waiting)}


async def test_a_dropped_reply_is_gone_and_the_api_says_so(
    postgres: asyncpg.Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undeliverable, "_CHUNK_ROWS", 2)
    dropped = [await add_undeliverable(postgres, "a", "not allowed") for _ in range(5)]
    waiting = await add_failing(postgres, "a", "partition 0 has no leader")
    kept = await add_undeliverable(postgres, "b", "not allowed")

    assert await drop(postgres, Selection("a")) == 5

    rows = await postgres.fetch("SELECT job_id FROM reply_outbox")
    assert {row["job_id"] for row in rows} == {waiting, kept}
    record = await ledger.record(dropped[0])
    assert record is not None
    assert record.reply is not None
    assert (record.reply.state, record.reply.topic) == (ReplyState.DROPPED, "a")


def test_the_command_reaches_the_database(database_url: str) -> None:
    code = "import sys; from gateway.replies.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "retry", f"--database-url={database_url}", str(uuid4())]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout) == (0, "retrying 0 replies\n"), done.stderr


async def test_a_lease_ends_when_it_is_not_renewed_even_if_the_clock_was_set_back(
    postgres: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 600.0)
    first, second = Lease(postgres, uuid4()), Lease(postgres, uuid4())
    assert await first.hold()
    assert await first.hold()
    assert not await second.hold()

    await postgres.execute("UPDATE leases SET expires_at = now() - interval '1 second'")
    assert await second.hold()
    assert not await first.hold()
    await first.release()  # not its own any more
    assert not await first.hold()

    await postgres.execute("UPDATE leases SET expires_at = now() + interval '1 hour'")
    assert await first.hold()
    await first.release()
    assert await second.hold()
