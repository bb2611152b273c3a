"""Every place that connects to Postgres, by the URLs of managed ones: TLS, passwords, servers."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from gateway import database
from gateway.migrate import MigrateSettings, migrate
from gateway.postgres import connection as connecting
from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError
from niyama.local.ports import LOOPBACK
from niyama.local.postgres import SOCKET_NAME, LocalPostgres
from niyama.local.postgres_server import server_user

PASSWORD = "p@ss/w:rd+?"
QUOTED = "p%40ss%2Fw%3Ard+%3F"
ACCESS = """
local niyama managed scram-sha-256
local all all trust
"""
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Managed:
    """A Postgres that is reached over TLS only, as `localhost`, by a certificate of its own CA.

    The Postgres of the tests is built without TLS, so that is added in front of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file("ca"))
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.load_cert_chain(self.file("server"), folder / "server.key")
        self.port = 0
        self.clients: list[object] = []
        """The certificates that clients showed, or None."""

    def file(self, name: str) -> Path:
        return self._folder / f"{name}.crt"

    def url(self, query: str, user: str = f"managed:{QUOTED}", host: str = "localhost") -> str:
        """`query` may name files of the test, such as `=ca.crt`."""
        for name in ("ca.crt", "client.crt", "client.key"):
            query = query.replace(f"={name}", f"={self._folder / name}")
        return f"postgresql://{user}@{host}:{self.port}/niyama?{query}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError), contextlib.closing(writer):
            assert await reader.readexactly(8) == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.clients.append(writer.get_extra_info("peercert"))
            socket = self._folder / "postgres" / "socket" / SOCKET_NAME
            from_postgres, to_postgres = await asyncio.open_unix_connection(socket)
            sending = asyncio.create_task(pump(reader, to_postgres))
            await pump(from_postgres, writer)
            await sending


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError), contextlib.closing(target):
        while data := await source.read(65536):
            target.write(data)


def make_certificates(folder: Path) -> None:
    """A CA, and what it vouches for: the server as `localhost`, and a client."""
    ca = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
    for name, subject, issuer in [
        ("ca", "CA", []),
        ("server", "localhost", [*ca, "-addext", "subjectAltName=DNS:localhost"]),
        ("client", "client", ca),
    ]:
        made = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
        options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        command = ["openssl", "req", "-x509", *options, "-subj", f"/CN={subject}", *issuer, *made]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(state_dir: Path) -> Iterator[Path]:
    """Of a running Postgres in `postgres`, with certificates beside it."""
    folder = state_dir / "managed"
    folder.mkdir()
    make_certificates(folder)
    access = folder / "pg_hba.conf"
    access.write_text(ACCESS)
    if server_user():
        shutil.chown(access, server_user())
    settings = {"hba_file": str(access)}
    postgres = LocalPostgres(folder / "postgres", durable=False, settings=settings)
    try:
        asyncio.run(start_with_role(postgres))
        yield folder
    finally:
        asyncio.run(postgres.stop())


async def start_with_role(postgres: LocalPostgres) -> None:
    await postgres.start()
    connection = await database.connect(DatabaseSettings(database_url=postgres.url()), "test")
    await connection.execute(f"CREATE ROLE managed LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute("GRANT ALL ON SCHEMA public TO managed")
    await connection.close()


@pytest.fixture
async def managed(folder: Path) -> AsyncIterator[Managed]:
    managed = Managed(folder)
    server = await asyncio.start_server(managed.accept, LOOPBACK, 0)
    managed.port = server.sockets[0].getsockname()[1]
    async with server:
        yield managed


async def connect_everywhere(url: str) -> None:
    """As the ledger does, as the API does, and as `niyama migrate` does."""
    settings = MigrateSettings(database_url=url)
    await database.wait_for_postgres(settings)
    connection = await database.connect(settings, "ledger")
    await connection.close()
    engine = database.engine(settings, 1)
    assert (await database.read(engine, text("SELECT 1")))[0][0] == 1
    await engine.dispose()
    await migrate(settings)


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require",
        "ssl=require&application_name=x&connect_timeout=60&target_session_attrs=read-write",
        "sslmode=verify-full&sslrootcert=ca.crt&channel_binding=prefer",
        "sslmode=verify-ca&sslrootcert=ca.crt&options=-c%20lock_timeout%3D5s",
        "",
    ],
)
async def test_the_url_of_a_managed_postgres_works_everywhere(managed: Managed, query: str) -> None:
    await connect_everywhere(managed.url(query))


async def test_a_client_certificate_is_shown(managed: Managed) -> None:
    query = "sslmode=verify-full&sslrootcert=ca.crt&sslcert=client.crt&sslkey=client.key"
    settings = DatabaseSettings(database_url=managed.url(query))

    connection = await database.connect(settings, "test")
    await connection.close()

    (shown,) = managed.clients
    assert isinstance(shown, dict)
    assert shown["subject"] == ((("commonName", "client"),),)


async def test_the_certificates_of_the_machine_and_the_password_file_are_used(
    managed: Managed, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(managed.file("ca")))
    passfile = folder / "passfile"
    passfile.write_text(f"localhost:*:*:managed:{PASSWORD}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    url = managed.url("sslmode=verify-full&sslrootcert=system", user="managed")

    connection = await database.connect(DatabaseSettings(database_url=url), "test")
    await connection.close()


@pytest.mark.parametrize(
    ("query", "user", "host"),
    [
        ("sslmode=require", "managed:wrong", "localhost"),
        ("sslmode=verify-full&sslrootcert=ca.crt", f"managed:{QUOTED}", LOOPBACK),
        ("sslmode=verify-full&sslrootcert=client.crt", f"managed:{QUOTED}", "localhost"),
        ("sslmode=require&options=-c%20no_such%3D1", f"managed:{QUOTED}", "localhost"),
    ],
)
async def test_what_waiting_does_not_cure_is_said_at_start(
    managed: Managed, query: str, user: str, host: str
) -> None:
    settings = DatabaseSettings(database_url=managed.url(query, user, host))

    with pytest.raises(ConfigurationError, match="Correct --database-url") as caught:
        await database.wait_for_postgres(settings)

    assert QUOTED not in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def test_a_silent_server_hands_over_to_the_next(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_to = connecting._connect_to

    async def first_in_a_second(*arguments: Any) -> connecting.Connection:
        try:
            return await connect_to(*arguments)
        finally:
            monkeypatch.setattr(connecting, "CONNECT_TIMEOUT_S", 60.0)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client leaves
        writer.close()

    silent = await asyncio.start_server(hang, LOOPBACK, 0)
    port = silent.sockets[0].getsockname()[1]
    url = managed.url("sslmode=require").replace("@localhost", f"@{LOOPBACK}:{port},localhost")
    monkeypatch.setattr(connecting, "CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(connecting, "_connect_to", first_in_a_second)

    async with silent:
        connection = await database.connect(DatabaseSettings(database_url=url), "test")
        await connection.close()


async def test_of_several_servers_one_that_can_be_written_to_is_wanted(managed: Managed) -> None:
    url = managed.url("sslmode=require&options=-c%20default_transaction_read_only%3Don")
    settings = DatabaseSettings(database_url=url.replace("@", "@localhost:1,"))

    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await database.connect(settings, "test")
