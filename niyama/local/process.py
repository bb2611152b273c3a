"""Child processes of the local stack."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from niyama.local.errors import ChildDiedError, LocalStackError

POLL_INTERVAL_S = 0.03
READY_INTERVAL_S = 0.1
START_TIMEOUT_S = 180.0
"""For Kafka, Postgres and the gateway: a machine that is busy with much else takes minutes."""
LOG_LIMIT_BYTES = 16 * 1024 * 1024
EXEC_CHILD = Path(__file__).with_name("exec_child.py")


class Child:
    """A running program: it dies with this process and writes its output to a file.

    It has a session of its own, so that Ctrl-C in a terminal reaches only its supervisor. Start
    it from a thread that outlives it, preferably the main one (see `exec_child`).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        user: str = "",
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start `argv` with `env` added to this process's environment, as `user` if named.

        Raises LocalStackError when the log cannot be written. A program that cannot be run shows
        as a child that died with status 127.
        """
        self.name = name
        self.log_path = log_path
        self._stop_signal = stop_signal
        self._group_ended = False
        wrapper = [sys.executable, "-I", "-S", str(EXEC_CHILD), str(os.getpid()), user]
        with _open_log(log_path) as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*wrapper, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def log_excerpt(self, lines: int = 20) -> str:
        """The last `lines` of what this run wrote."""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - 64 * 1024))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(nothing)"

    def check_alive(self) -> None:
        """Raises ChildDiedError, with the end of the log, when it has ended."""
        status = self.exit_status
        if status is not None:
            raise ChildDiedError(self.name, status, self.log_excerpt(), self.log_path)

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float | None
    ) -> None:
        """Return once `ready()` is true.

        Raises ChildDiedError when the child ends first, LocalStackError after `timeout_s` (None:
        never).
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not await ready():
                    self.check_alive()
                    await asyncio.sleep(READY_INTERVAL_S)
        except TimeoutError:
            raise LocalStackError(
                f"{self.name} was not ready after {timeout_s:g} s. "
                f"The end of {self.log_path}:\n{self.log_excerpt()}"
            ) from None
        self.check_alive()  # what answered may have been another process

    async def wait(self) -> int:
        """Return its exit status once it has ended."""
        # Polled, so that a child started under one event loop can be awaited under another.
        while (status := self.exit_status) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL_S)
        return status

    async def stop(self, *, grace_s: float) -> None:
        """End it: by its stop signal, and after `grace_s` by SIGKILL, with its process group."""
        if self.exit_status is None:
            self._process.send_signal(self._stop_signal)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and every process of its group immediately."""
        if not self._group_ended:  # later the number may be that of another group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._group_ended = True
        self._process.wait()


def _open_log(path: Path) -> BinaryIO:
    try:
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")
    except OSError as error:
        raise LocalStackError(f"cannot write the log {path}: {error.strerror}") from error


async def run_to_end(
    name: str,
    argv: Sequence[str],
    *,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    user: str = "",
    cwd: Path | None = None,
    timeout_s: float = 300.0,
) -> None:
    """Run a command as a Child until it ends by itself.

    Raises ChildDiedError unless it ends with status 0, LocalStackError after `timeout_s`.
    """
    child = Child(name, argv, log_path=log_path, env=env, user=user, cwd=cwd)
    try:
        async with asyncio.timeout(timeout_s):
            status = await child.wait()
    except TimeoutError:
        raise LocalStackError(
            f"{name} had not ended after {timeout_s:g} s. "
            f"The end of {log_path}:\n{child.log_excerpt()}"
        ) from None
    finally:
        child.kill()
    if status != 0:
        child.check_alive()
