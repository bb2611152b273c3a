"""A Postgres of our own: restarts, crashes, and every way of failing to start."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from niyama.local.errors import LocalStackError
from niyama.local.postgres import LocalPostgres

NEARLY_FULL_DISK = """
mount -t tmpfs -o size=8m none "$1" && exec "$2" -c '
import asyncio, pathlib, sys
from niyama.local.postgres import LocalPostgres
postgres = LocalPostgres(pathlib.Path(sys.argv[1]) / "postgres")
try:
    asyncio.run(postgres.start())
finally:
    asyncio.run(postgres.stop())
' "$1"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="niyama-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[LocalPostgres]:
    """Not started, and stopped in any case."""
    server = LocalPostgres(folder / "postgres")
    yield server
    await server.stop()


async def query(postgres: LocalPostgres, statement: str) -> object:
    connection = await asyncpg.connect(postgres.url())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_keeps_its_data_through_a_stop_and_a_crash(postgres: LocalPostgres) -> None:
    await postgres.start()
    await query(postgres, "CREATE TABLE job AS SELECT 7 AS id")
    await postgres.stop()
    await postgres.start()
    assert postgres.child
    os.kill(postgres.child.pid, signal.SIGKILL)
    assert await postgres.child.wait() == -signal.SIGKILL
    await postgres.start()
    assert await query(postgres, "SELECT id FROM job") == 7


async def test_starts_again_when_it_was_made_read_only(postgres: LocalPostgres) -> None:
    await postgres.start()
    await query(postgres, "ALTER SYSTEM SET default_transaction_read_only = on")
    await postgres.stop()

    await postgres.start()

    assert await query(postgres, "SHOW default_transaction_read_only") == "on"


async def test_only_its_own_user_can_reach_its_socket(
    postgres: LocalPostgres, folder: Path
) -> None:
    await postgres.start()
    assert await query(postgres, "SHOW listen_addresses") == ""
    socket_dir = (folder / "postgres" / "socket").stat()
    assert stat.S_IMODE(socket_dir.st_mode) == 0o700


async def test_a_path_too_long_for_a_socket_works_all_the_same(folder: Path) -> None:
    postgres = LocalPostgres(folder / ("long" * 30) / "postgres")
    try:
        await postgres.start()
        assert await query(postgres, "SELECT 1") == 1
    finally:
        await postgres.stop()


async def test_stopping_does_not_wait_for_clients(postgres: LocalPostgres) -> None:
    await postgres.start()
    connection = await asyncpg.connect(postgres.url())
    try:
        await postgres.stop()
        assert postgres.child
        assert postgres.child.exit_status == 0
    finally:
        connection.terminate()


async def test_data_of_another_version_is_left_alone(postgres: LocalPostgres, folder: Path) -> None:
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    with pytest.raises(LocalStackError, match=r"made by Postgres 12, .* has 18: .*--fresh"):
        await postgres.start()


async def test_an_interrupted_initialisation_is_done_again(
    postgres: LocalPostgres, folder: Path
) -> None:
    unfinished = folder / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    await postgres.start()
    assert await query(postgres, "SELECT 1") == 1


def test_a_full_disk_is_called_that(folder: Path) -> None:
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", NEARLY_FULL_DISK, "sh", folder, sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"the disk of {folder}/postgres is full" in done.stderr
    assert "--state" in done.stderr


def own_mounts() -> list[str]:
    """A mount namespace that ends with the command; for others than root in a user namespace."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-c"]
