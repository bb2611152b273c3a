"""The stack of compose.yaml, as a project of its own beside any that already runs."""

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from niyama.local.ports import LOOPBACK, free_port

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 1800.0
START_TIMEOUT_S = 480.0
COMMAND_TIMEOUT_S = 600.0


class ComposeError(AssertionError):
    """A `docker compose` command failed; the message ends with what it printed."""


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """`docker compose` with a project name, ports and volumes of its own."""

    name: str = field(default_factory=lambda: f"niyama-test-{uuid.uuid4().hex[:8]}")
    api_port: int = field(default_factory=free_port)
    kafka_port: int = field(default_factory=free_port)

    @property
    def api_url(self) -> str:
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def kafka_bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.kafka_port}"

    def build(self) -> None:
        self.run("build", timeout_s=BUILD_TIMEOUT_S)

    def up(self) -> None:
        """Start everything; return when all of it is healthy."""
        self.run("up", "--detach", "--wait", "--wait-timeout", f"{START_TIMEOUT_S:.0f}")

    def down(self) -> None:
        """Remove containers and network; keep the volumes."""
        self.run("down")

    def remove(self) -> None:
        """Remove everything that the project made, except the images."""
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "10")

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run `docker compose ARGUMENTS` and return what it printed. Raises ComposeError."""
        command = ["docker", "compose", "--project-name", self.name, *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise ComposeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def _env(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COMPOSE_", "NIYAMA_"))
        }
        ports = {"NIYAMA_API_PORT": self.api_port, "NIYAMA_KAFKA_PORT": self.kafka_port}
        return kept | {name: str(port) for name, port in ports.items()}
