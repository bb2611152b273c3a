"""One broker with authentication and ACLs for all tests of this folder."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.secured_kafka import SecuredKafka


@pytest.fixture(scope="session")
def secured_kafka(state_dir: Path) -> Iterator[SecuredKafka]:
    folder = state_dir / "certificates"
    folder.mkdir()
    kafka = SecuredKafka(state_dir / "secured-kafka", Certificates(folder))
    try:
        asyncio.run(kafka.start())
        yield kafka
    finally:
        asyncio.run(kafka.stop())
