"""Children: their output, their end, and the end of their parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.process import LOG_LIMIT_BYTES, Child, run_to_end

PATIENCE_S = 60.0


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.kill()


def shell(script: str, log_path: Path, children: list[Child]) -> Child:
    children.append(Child("sleeper", ["sh", "-c", script], log_path=log_path))
    return children[-1]


async def until_written(child: Child, text: str) -> None:
    async def written() -> bool:
        return text in child.log_excerpt()

    await child.wait_until(written, timeout_s=PATIENCE_S)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while runs(pid):
            await asyncio.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie has ended


async def test_a_dead_child_is_reported_with_the_end_of_its_log(log_path: Path) -> None:
    with pytest.raises(ChildDiedError, match=r"teller ended with status 3(.|\n)*no such model"):
        await run_to_end("teller", ["sh", "-c", "echo no such model; exit 3"], log_path=log_path)


async def test_a_program_that_cannot_be_run_is_such_a_child(log_path: Path) -> None:
    with pytest.raises(ChildDiedError, match="cannot run /no/such/program: No such file"):
        await run_to_end("it", ["/no/such/program"], log_path=log_path)


async def test_an_earlier_run_is_no_part_of_the_excerpt(log_path: Path) -> None:
    await run_to_end("it", ["echo", "before"], log_path=log_path)
    with pytest.raises(ChildDiedError) as raised:
        await run_to_end("it", ["sh", "-c", "echo after; exit 1"], log_path=log_path)
    assert raised.value.log_excerpt == "after"
    assert log_path.read_text() == "before\nafter\n"


async def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"cannot write the log .*no/it.log: No such file"):
        await run_to_end("it", ["true"], log_path=tmp_path / "no" / "it.log")


async def test_a_long_log_is_put_aside(log_path: Path) -> None:
    log_path.write_bytes(bytes(LOG_LIMIT_BYTES + 1))
    await run_to_end("it", ["echo", "new"], log_path=log_path)
    assert log_path.read_text() == "new\n"
    assert log_path.with_suffix(".log.1").stat().st_size > LOG_LIMIT_BYTES


async def test_a_command_that_does_not_end_is_ended(log_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"it had not ended after 0.2 s"):
        await run_to_end("it", ["sleep", "100"], log_path=log_path, timeout_s=0.2)


async def test_a_child_that_never_gets_ready_is_reported(
    log_path: Path, children: list[Child]
) -> None:
    async def ready() -> bool:
        return False

    child = shell("echo loading; sleep 100", log_path, children)
    await until_written(child, "loading")
    with pytest.raises(LocalStackError, match=r"sleeper was not ready after 0.1 s(.|\n)*loading"):
        await child.wait_until(ready, timeout_s=0.1)


async def test_a_child_is_asked_to_stop_before_it_is_killed(
    log_path: Path, children: list[Child]
) -> None:
    child = shell(
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done", log_path, children
    )
    await until_written(child, "up")
    await child.stop(grace_s=PATIENCE_S)
    assert child.exit_status == 0
    assert child.log_excerpt() == "up\nbye"


async def test_a_child_that_will_not_stop_is_killed_with_its_own_children(
    log_path: Path, children: list[Child]
) -> None:
    child = shell("trap '' TERM; sleep 100 & echo $! up; wait", log_path, children)
    await until_written(child, "up")
    grandchild = int(child.log_excerpt().split()[0])
    await child.stop(grace_s=0.1)
    assert child.exit_status == -signal.SIGKILL
    await until_gone(grandchild)


async def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(
    log_path: Path, children: list[Child]
) -> None:
    child = shell("sleep 100", log_path, children)
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


async def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from niyama.local.process import Child\n"
        "child = Child('it', ['sleep', '100'], log_path=pathlib.Path(sys.argv[1]))\n"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "it.log"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        await until_program(pid, "sleep")
        parent.kill()
    await until_gone(pid)


async def until_program(pid: int, name: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while Path(f"/proc/{pid}/comm").read_text().strip() != name:
            await asyncio.sleep(0.02)
