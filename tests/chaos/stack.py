"""Kafka, Postgres, two gateways and some workers, each restarted when it dies."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from niyama import KafkaSettings
from niyama.kafka import ensure_topics
from niyama.local.command import LocalCommand, run_command
from niyama.local.kafka import LocalKafka
from niyama.local.ports import LOOPBACK, free_port
from niyama.local.postgres import LocalPostgres
from niyama.local.supervisor import Notice, Part, keep_running
from schemas.qos import DAY_S
from schemas.topics import TopicSpec
from tests.chaos.workload import ALL_REPLY_TOPICS, ENGINES, TOKEN_DELAY_MS

GATEWAYS = ("gateway-1", "gateway-2")
SESSION_TIMEOUT_S = 6
HANG_LIMIT_S = 10
STOP_GRACE_S = 20.0
RETRY_INTERVAL_S = 1.0
DISK_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Death:
    """A part that died."""

    part: str
    provoked: bool
    """Whether a fault killed it, or asked it to end."""
    detail: str


class LimitedDisk:
    """A tmpfs of a limited size that can be made full. Needs root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mount(self) -> bool:
        """Whether it could be mounted."""
        self._folder.mkdir(parents=True)
        options = f"size={DISK_BYTES},mode=755"
        return _succeeds("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._folder))

    def fill(self) -> bool:
        """Leave no room. Returns whether that worked."""
        return self._resize(psutil.disk_usage(str(self._folder)).used)

    def free(self) -> bool:
        """Give the room back. Returns whether that worked."""
        return self._resize(DISK_BYTES)

    def unmount(self) -> None:
        _succeeds("umount", "--lazy", str(self._folder))

    def _resize(self, size_bytes: int) -> bool:
        return _succeeds("mount", "-o", f"remount,size={size_bytes}", str(self._folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class ChaosStack:
    """The stack under test; entered once every part is ready.

    A part that dies is started again, however often. Enter it in the main thread: its processes
    end with the thread that started them.
    """

    def __init__(
        self, folder: Path, *, workers: int, engine: str, notify: Callable[[Notice], None]
    ) -> None:
        """`folder` must be one that every user may enter, for Postgres."""
        self.folder = folder
        self.workers = tuple(f"worker-{number + 1}" for number in range(workers))
        self.disk: LimitedDisk | None = None
        """Where Postgres keeps its data, if it can be made full."""
        self.deaths: list[Death] = []
        self._engine = engine
        self._notify = notify
        self._kafka = LocalKafka(folder / "kafka")
        self._postgres = LocalPostgres(folder / "postgres")
        self._ports = {name: free_port() for name in GATEWAYS}
        self._parts: dict[str, Part] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._doomed: set[int] = set()
        self._exit = AsyncExitStack()

    @property
    def kafka_settings(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap=self._kafka.bootstrap)

    @property
    def database_url(self) -> str:
        return self._postgres.url()

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        return tuple(f"http://{LOOPBACK}:{port}" for port in self._ports.values())

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    def process(self, name: str) -> psutil.Process | None:
        """The process of a part, unless it is down."""
        child = self._parts[name].child
        if child is None or child.exit_status is not None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(child.pid)
        return None

    def doom(self, process: psutil.Process) -> None:
        """The next death of `process` is a fault's doing."""
        self._doomed.add(process.pid)

    def extra_worker(self) -> LocalCommand:
        """One more worker, not started and not supervised."""
        return self._worker("worker-extra")

    async def _start(self) -> None:
        disk = LimitedDisk(self.folder / "postgres")
        if disk.mount():
            self.disk = disk
            self._exit.callback(disk.unmount)
        self._exit.push_async_callback(self._stop_parts)
        await self._launch(("kafka", self._kafka), ("postgres", self._postgres))
        await run_command("migrate", folder=self.folder / "migrate", env=self._env())
        await ensure_topics(self.kafka_settings, [*map(reply_topic, ALL_REPLY_TOPICS)])
        gateways = [(name, self._gateway(name)) for name in GATEWAYS]
        workers = [(name, self._worker(name)) for name in self.workers]
        await self._launch(*gateways, *workers)

    async def _launch(self, *parts: tuple[str, Part]) -> None:
        """Keep `parts` running from now on; return when all are ready."""
        ready = [self._keep(name, part) for name, part in parts]
        await asyncio.gather(*(event.wait() for event in ready))

    def _keep(self, name: str, part: Part) -> asyncio.Event:
        ready = asyncio.Event()
        self._parts[name] = part
        self._keepers.append(asyncio.create_task(self._supervise(name, part, ready)))
        return ready

    async def _supervise(self, name: str, part: Part, ready: asyncio.Event) -> None:
        while True:
            try:
                await keep_running(name, part, ready=ready, notify=self._noticed)
            except Exception as error:  # a start that a fault interrupts fails in many ways
                self._noticed(Notice(name, "died", f"{type(error).__name__}: {error}"))
                await part.stop()
            await asyncio.sleep(RETRY_INTERVAL_S)

    def _noticed(self, notice: Notice) -> None:
        if notice.state == "died":
            child = self._parts[notice.part].child
            provoked = child is not None and child.pid in self._doomed
            self.deaths.append(Death(notice.part, provoked, notice.detail))
        self._notify(notice)

    async def _stop_parts(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for names in (self.workers, GATEWAYS, ("postgres", "kafka")):
            parts = [self._parts[name] for name in names if name in self._parts]
            await asyncio.gather(*(part.stop() for part in parts))

    def _gateway(self, name: str) -> LocalCommand:
        port = self._ports[name]
        address = {"NIYAMA_API_HOST": LOOPBACK, "NIYAMA_API_PORT": str(port)}
        return self._command("gateway", name, port, env=address)

    def _worker(self, name: str) -> LocalCommand:
        port = free_port()
        env = {
            "NIYAMA_HEALTH_PORT": str(port),
            "NIYAMA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "NIYAMA_HANG_LIMIT_S": str(HANG_LIMIT_S),
        }
        arguments: tuple[str, ...] = ()
        if self._engine == "null":
            model = ENGINES["null"].model
            delay = str(TOKEN_DELAY_MS)
            arguments = ("--engine", "null", "--model", model, "--null-token-delay-ms", delay)
        return self._command("worker", name, port, arguments, env=env)

    def _command(
        self,
        command: str,
        name: str,
        port: int,
        arguments: Sequence[str] = (),
        *,
        env: dict[str, str],
    ) -> LocalCommand:
        return LocalCommand(
            command,
            arguments,
            folder=self.folder / name,
            env=self._env() | env,
            address=f"http://{LOOPBACK}:{port}",
            start_timeout_s=None,  # it may have to wait for what a fault has taken away
            stop_grace_s=STOP_GRACE_S,
        )

    def _env(self) -> dict[str, str]:
        return {
            "NIYAMA_KAFKA_BOOTSTRAP": self._kafka.bootstrap,
            "NIYAMA_DATABASE_URL": self._postgres.url(),
        }


def reply_topic(name: str) -> TopicSpec:
    return TopicSpec(name, partitions=2, retention_s=7 * DAY_S, description="Replies")
