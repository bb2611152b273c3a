"""Migrations and tables agree, and both directions work."""

import asyncio
import os
import subprocess
import sys
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from gateway import migrate as migrating
from gateway.database import AdvisoryLock, engine_of_one_use
from gateway.ledger import history_partitions
from gateway.ledger.tables import metadata
from gateway.migrate import MigrateSettings, check_schema, head, migrate
from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError

NIYAMA = Path(sys.executable).with_name("niyama")


async def objects(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace"
    )
    await connection.close()
    return {row["name"] for row in rows}


def niyama(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [NIYAMA, *arguments],
        env={**os.environ, "NIYAMA_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_migrations_make_the_tables_of_the_code(
    database_url: str, postgres: asyncpg.Connection
) -> None:
    await history_partitions.ensure_partitions(postgres, date(2026, 11, 21))

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_server_default": True, "include_name": include_name}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    def include_name(name: str | None, kind: str, _: Any) -> bool:
        return kind != "table" or not (name or "").startswith(("job_events_", "alembic_version"))

    engine = engine_of_one_use(DatabaseSettings(database_url=database_url))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_downgrade_to_base_leaves_nothing_behind(empty_database_url: str) -> None:
    await migrate(MigrateSettings(database_url=empty_database_url))
    assert {"jobs", "job_events_default", "job_status"} <= await objects(empty_database_url)

    await migrate(MigrateSettings(database_url=empty_database_url, downgrade="base"))

    left = {name for name in await objects(empty_database_url) if "alembic_version" not in name}
    assert left == set()


async def test_without_a_schema_the_error_says_to_run_niyama_migrate(
    empty_database_url: str,
) -> None:
    settings = DatabaseSettings(database_url=empty_database_url)

    with pytest.raises(ConfigurationError, match="no schema yet: run niyama migrate"):
        await check_schema(settings)
    await migrate(MigrateSettings(database_url=empty_database_url))
    await check_schema(settings)


async def test_a_newer_database_names_both_migrations(
    database_url: str, postgres: asyncpg.Connection
) -> None:
    await postgres.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ConfigurationError, match=f"at migration 9999.*needs {head()}"):
        await check_schema(DatabaseSettings(database_url=database_url))


def test_the_gateway_does_not_start_on_another_migration(
    empty_database_url: str, kafka_bootstrap: str
) -> None:
    arguments = ["gateway", "--api-port=0", f"--kafka-bootstrap={kafka_bootstrap}"]

    gateway = niyama(empty_database_url, *arguments)
    _, messages = gateway.communicate(timeout=120)

    assert gateway.returncode == 1
    assert "run niyama migrate" in messages
    assert "Traceback" not in messages


def test_migrations_that_run_at_the_same_time_wait_for_each_other(empty_database_url: str) -> None:
    running = [niyama(empty_database_url, "migrate") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in running]

    assert [process.returncode for process in running] == [0, 0], said
    assert sorted(out.split()[0] for out, _ in said) == ["already", "migrated"]
    check = niyama(empty_database_url, "migrate", "--check")
    assert check.communicate(timeout=120)[0] == "the database is up to date\n"


class MinuteByMinute:
    """A clock on which a minute passes whenever somebody looks."""

    def __init__(self) -> None:
        self._minutes = count()

    def monotonic(self) -> float:
        return 60.0 * next(self._minutes)


async def test_a_migration_waits_for_a_table_in_use_without_keeping_others_waiting(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(migrating, "LOCK_PAUSE_S", 0.05)
    await migrate(MigrateSettings(database_url=empty_database_url, to="0007"))
    newest = MigrateSettings(database_url=empty_database_url)
    backup, gateway = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    transaction = backup.transaction()
    await transaction.start()
    await backup.execute("SELECT FROM jobs")

    with monkeypatch.context() as patch:
        patch.setattr(migrating, "time", MinuteByMinute())
        with pytest.raises(ConfigurationError, match=r"kept a table of .* locked for 60 s"):
            await migrate(newest)
    migrating_now = asyncio.create_task(migrate(newest))
    async with asyncio.timeout(60):
        while not await gateway.fetch("SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        await gateway.execute("SELECT FROM jobs")
    await transaction.rollback()
    await migrating_now

    await check_schema(newest)
    await asyncio.gather(backup.close(), gateway.close())


def test_an_unknown_revision_is_a_sentence(empty_database_url: str) -> None:
    process = niyama(empty_database_url, "migrate", "--to", "nonsense")
    _, messages = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "nonsense" in messages
    assert "Traceback" not in messages


async def test_waits_for_postgres_only_so_long() -> None:
    nowhere = MigrateSettings(database_url="postgresql://niyama@127.0.0.1:1/niyama", wait_s=0.1)
    with pytest.raises(ConfigurationError, match=r"no answer from Postgres .* within 0\.1 s"):
        await migrate(nowhere)


async def test_waits_for_another_migration_only_so_long(
    database_url: str, postgres: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_there(_: DatabaseSettings) -> None:
        """It has as long as the other migration, which is too short to count on."""

    key = AdvisoryLock.MIGRATION.value
    await postgres.execute("SELECT pg_advisory_lock($1)", key)
    with monkeypatch.context() as patch:
        patch.setattr(migrating, "wait_for_postgres", is_there)
        with pytest.raises(ConfigurationError, match=r"another migration .* within 0\.5 s"):
            await migrate(MigrateSettings(database_url=database_url, wait_s=0.5))
    await postgres.execute("SELECT pg_advisory_unlock($1)", key)
    await migrate(MigrateSettings(database_url=database_url))
