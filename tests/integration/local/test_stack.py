"""The stack around its commands: what they are given, how they die, and how everything stops."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from niyama.local import command, supervisor
from niyama.local.errors import LocalStackError
from niyama.local.ports import LOOPBACK
from niyama.local.stack import LocalStack, StackOptions
from niyama.local.supervisor import Notice

COMMANDS = Path(__file__).with_name("commands.py")


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "niyama_command", lambda: [sys.executable, str(COMMANDS)])
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.05)


def options(tmp_path: Path, **others: object) -> StackOptions:
    """A stack on a Kafka and a Postgres that are there already."""
    existing = {"kafka_bootstrap": "kafka:9092", "database_url": "postgresql://db/niyama"}
    return StackOptions(tmp_path / "state", **(existing | others))  # type: ignore[arg-type]


def log(tmp_path: Path, name: str) -> str:
    return (tmp_path / "state" / name / f"{name}.log").read_text()


async def test_commands_are_given_the_addresses_of_each_other(tmp_path: Path) -> None:
    asked = options(tmp_path, model="tiny", worker_arguments=("--tp-size", "2"))
    async with LocalStack(asked) as stack:
        for name in ("migrate", "gateway", "worker"):
            assert "('NIYAMA_KAFKA_BOOTSTRAP', 'kafka:9092')" in log(tmp_path, name)
            assert "('NIYAMA_DATABASE_URL', 'postgresql://db/niyama')" in log(tmp_path, name)
            assert "('NIYAMA_MODEL', 'tiny')" in log(tmp_path, name)
        assert log(tmp_path, "worker").startswith("worker ('--tp-size', '2')")
        assert f"('NIYAMA_API_PORT', '{stack.api_url.rpartition(':')[2]}')" in log(
            tmp_path, "gateway"
        )


async def test_only_what_is_asked_for_is_started(tmp_path: Path) -> None:
    async with LocalStack(options(tmp_path, gateway=False, worker=False)):
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


async def test_the_worker_stops_before_the_gateway_that_records_its_last_events(
    tmp_path: Path,
) -> None:
    notices: list[Notice] = []
    async with LocalStack(options(tmp_path), notify=notices.append) as stack:
        pids = [stack.pid("gateway"), stack.pid("worker")]
    stopped = [notice.part for notice in notices if notice.state == "stopping"]
    assert stopped == ["worker", "gateway"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_part_that_dies_is_started_again_with_a_notice(tmp_path: Path) -> None:
    again = asyncio.Event()
    deaths: list[str] = []

    def notify(notice: Notice) -> None:
        if notice.state == "died":
            deaths.append(notice.part)
        elif notice.state == "ready" and deaths:
            again.set()

    async with LocalStack(options(tmp_path), notify=notify) as stack:
        before = stack.pid("worker")
        assert before
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(60):
            await again.wait()
        assert deaths == ["worker"]
        assert stack.pid("worker") not in (None, before)


async def test_a_worker_that_cannot_start_ends_the_stack_with_its_own_message(
    tmp_path: Path,
) -> None:
    stack = LocalStack(options(tmp_path, env={"FAKE_WORKER": "die"}))
    with pytest.raises(LocalStackError, match="worker: no such model"):
        await stack.__aenter__()
    assert stack.pid("gateway") is None
    async with LocalStack(options(tmp_path)):  # the folder is free again
        pass


async def test_wait_raises_the_error_of_a_part_that_stays_dead(tmp_path: Path) -> None:
    switch = tmp_path / "die"
    async with LocalStack(options(tmp_path, env={"FAKE_SWITCH": str(switch)})) as stack:
        pid = stack.pid("worker")
        assert pid
        switch.touch()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            with pytest.raises(LocalStackError, match="worker: no such model"):
                await stack.wait()


async def test_a_failed_migration_ends_the_stack(tmp_path: Path) -> None:
    asked = options(tmp_path, worker=False, env={"FAKE_MIGRATE": "die"})
    with pytest.raises(LocalStackError, match=r"cannot be migrated(.|\n)*migrate: no such model"):
        await LocalStack(asked).__aenter__()


async def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"the API cannot use port {port}.*--api-port"):
            await LocalStack(options(tmp_path, api_port=port)).__aenter__()


async def test_fresh_deletes_the_stacks_own_folders_and_nothing_else(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("kafka", "postgres", "models", "precious"):
        (state / name).mkdir(parents=True)
    asked = options(tmp_path, fresh=True, gateway=False, worker=False)
    async with LocalStack(asked):
        left = {path.name for path in state.iterdir()}
    assert left == {"lock", "models", "precious"}
