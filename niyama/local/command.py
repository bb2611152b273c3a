"""The project's own commands as parts of the local stack."""

import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from niyama.local.folders import make_dir
from niyama.local.process import Child, run_to_end

READY_TIMEOUT_S = 2.0


class LocalCommand:
    """`niyama <name>`, ready when `address`/readyz answers 200."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        address: str,
        start_timeout_s: float | None,
        stop_grace_s: float,
    ) -> None:
        self.child: Child | None = None
        self.address = address
        self._name = name
        self._argv = [*niyama_command(), name, *arguments]
        self._folder = folder
        self._env = env
        self._start_timeout_s = start_timeout_s
        self._stop_grace_s = stop_grace_s

    async def start(self) -> None:
        """Start it; return when it is ready. Raises LocalStackError, ChildDiedError."""
        self.child = Child(
            f"niyama {self._name}",
            self._argv,
            log_path=_log_path(self._folder, self._name),
            env=self._env,
        )
        async with httpx.AsyncClient(timeout=READY_TIMEOUT_S, trust_env=False) as client:

            async def ready() -> bool:
                try:
                    answer = await client.get(f"{self.address}/readyz")
                except httpx.TransportError:
                    return False
                return answer.status_code == httpx.codes.OK

            await self.child.wait_until(ready, timeout_s=self._start_timeout_s)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(grace_s=self._stop_grace_s)


async def run_command(name: str, *, folder: Path, env: Mapping[str, str]) -> None:
    """Run `niyama <name>` until it ends. Raises ChildDiedError unless it succeeds."""
    await run_to_end(
        f"niyama {name}", [*niyama_command(), name], log_path=_log_path(folder, name), env=env
    )


def niyama_command() -> list[str]:
    """The console command of this installation, regardless of PATH."""
    return [str(Path(sysconfig.get_path("scripts")) / "niyama")]


def _log_path(folder: Path, name: str) -> Path:
    return make_dir(folder, purpose="logs") / f"{name}.log"
