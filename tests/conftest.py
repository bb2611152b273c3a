"""The real Kafka and the real Postgres, one of each per run, started when a test first asks."""

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from niyama.kafka import admin, committed_offsets
from niyama.local import ports
from niyama.local.kafka import LocalKafka
from niyama.local.postgres import LocalPostgres
from niyama.retry import retry
from niyama.settings import KafkaSettings

log = logging.getLogger(__name__)

# How long an example takes says something about the machine. What a run says is about the change
# that it tests: it draws the examples of every other run. `--hypothesis-profile=explore` draws
# others.
timeless = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("niyama", timeless, derandomize=True)
hypothesis.settings.register_profile("explore", timeless, derandomize=False)
hypothesis.settings.load_profile("niyama")

# What listens on a free port does so seconds after it was found: the processes of a run look for
# theirs apart.
place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
ports.FREE_PORTS = ports.FREE_PORTS[place :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]

TEMPLATE = "niyama_template"
NIYAMA = Path(sys.executable).with_name("niyama")


ONE_PROCESS = Path("tests/integration/runtime")
"""Its tests share an SGLang engine, which takes long to start."""


class FilesTogether(LoadScopeScheduling):
    """With several processes the tests of a file stay together.

    Not by the marker `xdist_group`, which pytest-xdist 3.8 loses with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::", 1)[0])
        return str(ONE_PROCESS if file.is_relative_to(ONE_PROCESS) else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def state_dir() -> Iterator[Path]:
    """A folder that Postgres's own user may enter, which pytest's tmp_path of root is not."""
    with tempfile.TemporaryDirectory(prefix="niyama-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def local_kafka(state_dir: Path) -> Iterator[LocalKafka]:
    kafka = LocalKafka(state_dir / "kafka")
    try:
        asyncio.run(kafka.start())
        asyncio.run(_until_it_coordinates_groups(kafka))
        yield kafka
    finally:
        asyncio.run(kafka.stop())


async def _until_it_coordinates_groups(kafka: LocalKafka) -> None:
    """What the first test finds is what all others do."""
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    async with asyncio.timeout(120), admin(settings) as client:
        for group in ("g0", "g1", "g2", "g3"):  # one for each partition of the topic of offsets
            ask = partial(committed_offsets, client, group, [TopicPartition("none", 0)])
            await retry(ask, KafkaError, notice="Kafka coordinates no groups yet", log=log)


@pytest.fixture(scope="session")
def local_postgres(state_dir: Path) -> Iterator[LocalPostgres]:
    postgres = LocalPostgres(state_dir / "postgres", durable=False)
    try:
        asyncio.run(postgres.start())
        yield postgres
    finally:
        asyncio.run(postgres.stop())


@pytest.fixture
def kafka_bootstrap(local_kafka: LocalKafka) -> str:
    """Bootstrap servers of the run's Kafka. Keep topics apart by `topic_prefix`."""
    return local_kafka.bootstrap


@pytest.fixture
def topic_prefix() -> str:
    """A NIYAMA_TOPIC_PREFIX that no other test uses."""
    return f"test-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def pool() -> str:
    """A NIYAMA_POOL that no other test uses."""
    return f"pool-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def empty_database_url(local_postgres: LocalPostgres) -> Iterator[str]:
    """URL of an empty database of the test's own."""
    yield from _database(local_postgres, template="template1")


@pytest.fixture(scope="session")
def migrated_template(local_postgres: LocalPostgres) -> str:
    """Name of a database at the newest migration, to be copied."""
    asyncio.run(_execute(local_postgres, f'CREATE DATABASE "{TEMPLATE}"'))
    url = local_postgres.url(TEMPLATE)
    done = subprocess.run(
        [NIYAMA, "migrate"],
        env={**os.environ, "NIYAMA_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"niyama migrate failed:\n{done.stdout}{done.stderr}"
    return TEMPLATE


@pytest.fixture
def database_url(local_postgres: LocalPostgres, migrated_template: str) -> Iterator[str]:
    """URL of a database of the test's own, at the newest migration."""
    yield from _database(local_postgres, template=migrated_template)


def _database(postgres: LocalPostgres, *, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:10]}"
    asyncio.run(_execute(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    try:
        yield postgres.url(name)
    finally:
        asyncio.run(_execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(postgres: LocalPostgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def pytest_unconfigure() -> None:
    """Keep the types of SWIG's modules forever.

    sentencepiece comes with SGLang; freeing SWIG's type table while the interpreter ends crashes it
    (`SWIG_Python_DestroyModule` makes an object of a type that is gone), after a green run.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("swig_runtime_data"):
            for value in vars(module).values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
