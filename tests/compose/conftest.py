"""One project for all tests here: the images are built and started once."""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from niyama.client import Producer
from niyama.settings import KafkaSettings
from tests.compose.project import ComposeProject


@pytest.fixture(scope="session")
def project() -> Iterator[ComposeProject]:
    """The running stack. Its logs are printed at the end; nothing of it is left behind."""
    assert shutil.which("docker"), "these tests need Docker with its compose plugin"
    project = ComposeProject()
    try:
        project.build()
        project.up()
        yield project
    finally:
        sys.stdout.write(project.run("ps", "--all"))
        sys.stdout.write(project.run("logs", "--no-color", "--tail", "100"))
        project.remove()


@pytest_asyncio.fixture
async def producer(project: ComposeProject) -> AsyncIterator[Producer]:
    async with Producer(KafkaSettings(kafka_bootstrap=project.kafka_bootstrap)) as producer:
        yield producer


@pytest.fixture
def api(project: ComposeProject) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=project.api_url, timeout=60) as client:
        yield client
