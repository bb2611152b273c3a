"""One Postgres server on this machine, reached through a socket only."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.folders import explain_death, make_dir
from niyama.local.postgres_server import check_enterable, find_postgres, reachable, server_user
from niyama.local.process import START_TIMEOUT_S, Child, run_to_end

SUPERUSER = "postgres"
DATABASE = "niyama"
STOP_GRACE_S = 20.0
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH_BYTES = 107


class LocalPostgres:
    """A Postgres whose data lives in `folder` and survives restarts.

    It trusts every client that can open its socket, in a folder that only this user and root can
    enter. It listens on no network address.
    """

    def __init__(
        self, folder: Path, *, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        """`durable=False` trades the data's safety in a power failure for speed: for tests.

        `settings` are further ones of the server, such as `max_connections`.
        """
        self._folder = folder
        self._durable = durable
        self._settings = settings or {}
        self._user = server_user()
        self._socket_dir = folder / "socket"
        self._server: Child | None = None

    @property
    def address(self) -> str:
        return self.url()

    @property
    def child(self) -> Child | None:
        """The server's process, if it was started."""
        return self._server

    def url(self, database: str = DATABASE) -> str:
        """Where psql and asyncpg connect, once `start` has returned."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self._socket_dir}"

    async def start(self) -> None:
        """Initialise and start the server; return when the database `niyama` can be used.

        Raises LocalStackError: no Postgres, folder not writable or not enterable by the server's
        user, data of another version, server dead (with the end of its log).
        """
        make_dir(self._folder, purpose="Postgres's data")
        check_enterable(self._folder, self._user)
        installed = reachable(find_postgres(), self._user)
        self._prepare_socket_dir()
        try:
            await self._initialise(installed.bin_dir)
            self._check_version(installed.version)
            self._server = self._spawn(installed.bin_dir)
            await self._server.wait_until(self._serves, timeout_s=START_TIMEOUT_S)
        except ChildDiedError as error:
            raise explain_death(error, self._folder, consequence="Postgres cannot start") from error
        await self._create_database()

    async def stop(self) -> None:
        """Shut down, ending open connections. Safe to call in any state."""
        if self._server is not None:
            await self._server.stop(grace_s=STOP_GRACE_S)
        if self._socket_dir.parent != self._folder:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _spawn(self, bin_dir: Path) -> Child:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir),
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
            **self._settings,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Child(
            "Postgres",
            [str(bin_dir / "postgres"), "-D", str(self._data), *flags],
            log_path=self._folder / "postgres.log",
            user=self._user,
            cwd=self._folder,
            stop_signal=signal.SIGINT,  # fast: does not wait for clients to leave
        )

    def _prepare_socket_dir(self) -> None:
        if len(os.fsencode(self._socket_dir / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="niyama-postgres-"))
        self._make_private(self._socket_dir)

    def _make_private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        if self._user:
            shutil.chown(folder, self._user)

    async def _initialise(self, bin_dir: Path) -> None:
        if self._data.exists():
            return
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_private(unfinished)
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        await run_to_end(
            "Postgres's initdb",
            [str(bin_dir / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, *options],
            log_path=self._folder / "postgres.log",
            user=self._user,
            cwd=self._folder,
        )
        unfinished.rename(self._data)

    def _check_version(self, version: int) -> None:
        made_by = int((self._data / "PG_VERSION").read_text())
        if made_by != version:
            raise LocalStackError(
                f"the data in {self._data} was made by Postgres {made_by}, and this machine now "
                f"has {version}: start empty with --fresh, or install Postgres {made_by} again"
            )

    async def _serves(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url(SUPERUSER), timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _create_database(self) -> None:
        connection = await asyncpg.connect(self.url(SUPERUSER), timeout=10)
        try:
            known = "SELECT true FROM pg_database WHERE datname = $1"
            if not await connection.fetchval(known, DATABASE):  # a server may be read-only
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()
