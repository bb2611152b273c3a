"""`niyama migrate`: brings the ledger's database to this version's schema."""

import asyncio
import io
import sys
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pydantic import Field
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from gateway.database import AdvisoryLock, engine_of_one_use, wait_for_postgres
from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError
from niyama.log_lines import secrets_of
from niyama.logs import configure_logging

LOCK_TIMEOUT_S = 2.0
LOCK_PAUSE_S = 1.0
"""In which everybody else has their turn."""
LOCK_NOT_AVAILABLE = "55P03"


class MigrateSettings(DatabaseSettings):
    """Bring the ledger's database to this version's schema."""

    to: str = Field(default="head", description="The revision to upgrade to")
    downgrade: str | None = Field(
        default=None,
        description="Go back to this revision instead; base: drop every table, with all jobs",
    )
    check: bool = Field(
        default=False, description="Change nothing; fail unless the database is up to date"
    )
    wait_s: float = Field(
        default=60.0,
        ge=0.0,
        le=86_400.0,
        description="Wait for Postgres, another migration, or a table in use at most this long",
    )


def main(arguments: list[str]) -> int:
    """Run the command. Raises ConfigurationError with a sentence for people."""
    settings = MigrateSettings.from_command_line(arguments, "niyama migrate")
    configure_logging(
        "warning", "text", secrets_of(settings), line_format="niyama migrate: %(message)s"
    )
    asyncio.run(migrate(settings))
    return 0


async def migrate(settings: MigrateSettings) -> None:
    """Do what `settings` say, once no other migration runs.

    Raises ConfigurationError when Postgres or another migration keeps it waiting for `wait_s`.
    """
    where = settings.shown_database_url
    try:
        async with asyncio.timeout(settings.wait_s):
            await wait_for_postgres(settings)
    except TimeoutError:
        raise ConfigurationError(
            f"no answer from Postgres at {where} within {settings.wait_s:g} s (--wait-s). "
            "Is it up, and is --database-url (NIYAMA_DATABASE_URL) right?"
        ) from None
    if settings.check:
        await check_schema(settings)
        sys.stdout.write("the database is up to date\n")
        return
    engine = engine_of_one_use(settings)
    async with engine.connect() as connection:
        try:
            async with asyncio.timeout(settings.wait_s):
                await _lock(connection)
        except TimeoutError:
            raise ConfigurationError(
                f"another migration of {where} has not ended "
                f"within {settings.wait_s:g} s (--wait-s)"
            ) from None
        before = await _revision(connection)
        await _run_patiently(connection, settings)
        after = await _revision(connection)
    moved = f"from {before or 'empty'} to {after or 'empty'}"
    sys.stdout.write("already up to date\n" if before == after else f"migrated {moved}\n")


async def _lock(connection: AsyncConnection) -> None:
    """Wait until no other migration runs; the lock is the session's, not a transaction's."""
    key = AdvisoryLock.MIGRATION.value
    await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
    await connection.commit()


async def _run_patiently(connection: AsyncConnection, settings: MigrateSettings) -> None:
    """Run the migrations; for a table that is in use, wait in short pieces.

    Whoever queues for a table's lock makes everybody after it wait, too: behind a long backup all
    gateways would. Each migration is a transaction: those that are done stay done.
    """
    give_up_s = time.monotonic() + settings.wait_s
    await connection.execute(text(f"SET lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}"))
    await connection.commit()
    while True:
        try:
            await connection.run_sync(_run, settings)
        except DBAPIError as error:
            await connection.rollback()
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > give_up_s:
                raise ConfigurationError(
                    f"something else has kept a table of {settings.shown_database_url} locked "
                    f"for {settings.wait_s:g} s (--wait-s), such as a backup"
                ) from error
            await asyncio.sleep(LOCK_PAUSE_S)
        else:
            return


async def check_schema(settings: DatabaseSettings) -> None:
    """Raises ConfigurationError unless the database is at the newest revision."""
    engine = engine_of_one_use(settings)
    async with engine.connect() as connection:
        found = await _revision(connection)
    needed = head()
    if found == needed:
        return
    where = settings.shown_database_url
    if found is None:
        raise ConfigurationError(f"the database {where} has no schema yet: run niyama migrate")
    if found not in {script.revision for script in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"the database {where} is at migration {found}, which this version does not know "
            f"(it needs {needed}): it was migrated by a newer version. Run that version, or use "
            f"it to go back: niyama migrate --downgrade {needed}"
        )
    raise ConfigurationError(
        f"the database {where} is at migration {found}, and this version needs {needed}: "
        "run niyama migrate"
    )


def head() -> str:
    """The newest revision that this version knows."""
    newest = _scripts().get_current_head()
    assert newest is not None
    return newest


def config() -> Config:
    """Alembic's configuration. No alembic.ini: the scripts are part of the installation."""
    configuration = Config(stdout=io.StringIO())
    configuration.set_main_option("script_location", str(Path(migrations.__file__).parent))
    configuration.set_main_option("path_separator", "os")
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


async def _revision(connection: AsyncConnection) -> str | None:
    revision = await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )
    await connection.rollback()
    return revision


def _run(connection: Connection, settings: MigrateSettings) -> None:
    configuration = config()
    configuration.attributes["connection"] = connection
    try:
        if settings.downgrade is None:
            command.upgrade(configuration, settings.to)
        else:
            command.downgrade(configuration, settings.downgrade)
    except CommandError as error:
        raise ConfigurationError(
            f"cannot migrate {settings.shown_database_url}: {error}"
        ) from error
