"""Certificates that are renewed while the process runs."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from niyama.settings import KafkaSettings
from tests.support.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def broker(certificates: Certificates) -> AsyncIterator[int]:
    """A listener that says to each client who the client is; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.make("broker"))
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(pair for [pair] in writer.get_extra_info("peercert")["subject"])
        writer.write(subject["commonName"].encode())
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def who_am_i(port: int, context: ssl.SSLContext) -> str:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        name = await reader.read()
        writer.close()
        return name.decode()


async def test_a_renewed_certificate_is_shown_by_the_next_connection_of_the_same_client(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = certificates.make("old"), certificates.make("new")
    certificate, key = tmp_path / "worker.pem", tmp_path / "worker.key"

    old[0].rename(certificate)
    old[1].rename(key)
    context = KafkaSettings(
        kafka_security_protocol="SSL",
        kafka_ca_file=certificates.ca,
        kafka_certificate_file=certificate,
        kafka_key_file=key,
    ).client_options()["ssl_context"]
    async with broker(certificates) as port:
        assert await who_am_i(port, context) == "old"
        with caplog.at_level(logging.WARNING, "niyama.tls"):
            new[0].rename(certificate)
            assert await who_am_i(port, context) == "old"  # its key is still the old one
        assert "cannot be used yet" in caplog.text
        new[1].rename(key)
        assert await who_am_i(port, context) == "new"
        key.unlink()
        assert await who_am_i(port, context) == "new"


async def test_an_authority_that_comes_later_is_trusted(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    ca = Certificates(tmp_path / "other").ca
    certificate, key = certificates.make("worker")
    context = KafkaSettings(
        kafka_security_protocol="SSL",
        kafka_ca_file=ca,
        kafka_certificate_file=certificate,
        kafka_key_file=key,
    ).client_options()["ssl_context"]
    async with broker(certificates) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await who_am_i(port, context)
        ca.write_text(ca.read_text() + certificates.ca.read_text())
        assert await who_am_i(port, context) == "worker"
