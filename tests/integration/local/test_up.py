"""`niyama up` as a user runs it: signals, two stacks at the same time, and a restart."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PATIENCE_S = 120.0
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the test run's parent may ignore it
from niyama.errors import NiyamaError
from niyama.local import command, stack
from niyama.local.up import main
command.niyama_command = lambda: [sys.executable, sys.argv[1]]
stack.WORKER_STOP_GRACE_S = 3600.0  # whatever ends sooner has not waited for it
try:
    sys.exit(main(sys.argv[2:]))
except NiyamaError as error:
    sys.exit(str(error))
"""
COMMANDS = Path(__file__).with_name("commands.py")


class Up:
    """A running `niyama up` on free ports; with Kafka and Postgres, stand-ins for the rest."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.output_path = state.with_suffix(f".{time.monotonic_ns()}.out")
        ports = ["--api-port", "0", "--kafka-port", "0", "--health-port", "0"]
        state_of = ["--state", str(state)]
        with self.output_path.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, COMMANDS, *ports, *state_of, *arguments],
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def wait_until_up(self) -> "Up":
        give_up_s = time.monotonic() + PATIENCE_S
        while "Niyama is up" not in self.output or "State" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < give_up_s, self.output
            time.sleep(0.05)
        return self

    def shown(self, name: str) -> str:
        found = re.search(rf"^  {name} +(\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    def children(self) -> list[int]:
        shown = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in shown.split()]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="niyama-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def up(folder: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(name: str, *arguments: str) -> Up:
        started.append(Up(folder / name, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


async def topics(bootstrap: str, *, create: str = "") -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if create:
            await admin.create_topics([NewTopic(create, 1, 1)])
        return set(await admin.list_topics())
    finally:
        await admin.close()


def assert_all_end(pids: list[int]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < give_up_s, pids
        time.sleep(0.05)


async def test_state_survives_a_kill_and_a_restart_until_a_fresh_start(
    up: Callable[..., Up],
) -> None:
    first = up("a").wait_until_up()
    await topics(first.shown("Kafka"), create="kept")
    children = first.children()
    assert len(children) == 4
    first.end(signal.SIGKILL)
    assert_all_end(children)

    second = up("a").wait_until_up()
    assert "kept" in await topics(second.shown("Kafka"))
    assert second.end(signal.SIGTERM) == 0

    third = up("a", "--fresh").wait_until_up()
    assert "kept" not in await topics(third.shown("Kafka"))


async def test_two_stacks_at_once_and_one_folder_only_once(up: Callable[..., Up]) -> None:
    a, b = up("a"), up("b")
    a.wait_until_up()
    b.wait_until_up()
    assert a.shown("API") != b.shown("API")
    await topics(a.shown("Kafka"), create="mine")
    assert "mine" not in await topics(b.shown("Kafka"))

    intruder = up("a")
    assert intruder.process.wait(PATIENCE_S) == 1
    assert f"in use by another local stack (process {a.process.pid})" in intruder.output

    children = a.children()
    assert a.end(signal.SIGINT) == 0
    assert "the state is kept in" in a.output
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_interrupted_while_it_starts_leaves_nothing(up: Callable[..., Up], folder: Path) -> None:
    stack = up("a")
    give_up_s = time.monotonic() + PATIENCE_S
    while not ((folder / "a" / "kafka" / "data").exists() and (children := stack.children())):
        assert time.monotonic() < give_up_s, stack.output
        time.sleep(0.02)
    assert stack.end(signal.SIGINT) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_second_signal_ends_what_will_not_stop(
    up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WORKER", "stubborn")
    stack = up("a").wait_until_up()
    children = stack.children()
    stack.process.send_signal(signal.SIGINT)
    give_up_s = time.monotonic() + PATIENCE_S
    while "worker    stopping" not in stack.output:
        assert time.monotonic() < give_up_s, stack.output
        time.sleep(0.02)
    assert stack.end(signal.SIGINT) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_every_flag_is_documented() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", RUN, COMMANDS, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    flags = re.findall(r"^  --(\S+) .*", shown, re.MULTILINE)
    assert {"state", "fresh", "model", "api-port", "kafka-port"} <= set(flags)
