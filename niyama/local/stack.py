"""The whole stack on one machine, as child processes of this one."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from niyama.local.command import LocalCommand, run_command
from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.folders import make_dir
from niyama.local.kafka import LocalKafka
from niyama.local.lock import locked
from niyama.local.ports import LOOPBACK, choose_port
from niyama.local.postgres import LocalPostgres
from niyama.local.process import START_TIMEOUT_S
from niyama.local.supervisor import Notice, Part, keep_running

GATEWAY_STOP_GRACE_S = 15.0
WORKER_STOP_GRACE_S = 60.0
STOP_ORDER = ("worker", "gateway", "postgres", "kafka")
"""Each stops before the parts that it needs."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to run, and where. A port of 0 takes a free one."""

    state_dir: Path
    """Everything the stack keeps. One stack at a time."""
    fresh: bool = False
    """Delete Kafka's log and Postgres's data first. Models are kept."""
    api_host: str = LOOPBACK
    api_port: int = 0
    kafka_port: int = 0
    health_port: int = 0
    """Of the worker."""
    kafka_bootstrap: str | None = None
    """An existing Kafka to use in place of one of our own."""
    database_url: str | None = None
    """An existing database to use in place of one of our own."""
    gateway: bool = True
    worker: bool = True
    model: str | None = None
    """Name or path for the worker; None leaves the choice to it."""
    worker_arguments: tuple[str, ...] = ()
    """Further arguments of `niyama worker`."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of migrate, gateway and worker."""


def _ignore(_: Notice) -> None:
    pass


class LocalStack:
    """Kafka, Postgres, the migration, a gateway and a worker; entered once all are ready.

    `async with LocalStack(options) as stack: ...`. Raises LocalStackError when a part cannot
    be started. A part that dies later is started again; when that fails too, `wait` raises.
    Leaving stops every part. The children die with the thread that enters, so enter from one that
    stays, preferably the main one.
    """

    def __init__(
        self, options: StackOptions, *, notify: Callable[[Notice], None] = _ignore
    ) -> None:
        self._options = options
        self._notify = notify
        self._kafka: LocalKafka | None = None
        self._postgres: LocalPostgres | None = None
        self._api_port = options.api_port
        self._worker_port = 0
        self._parts: dict[str, Part] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._exit = AsyncExitStack()

    @property
    def api_url(self) -> str:
        return f"http://{self._options.api_host}:{self._api_port}"

    @property
    def worker_url(self) -> str:
        """Its /healthz, /readyz and /metrics."""
        return f"http://{LOOPBACK}:{self._worker_port}"

    @property
    def kafka_bootstrap(self) -> str:
        return self._kafka.bootstrap if self._kafka else self._options.kafka_bootstrap or ""

    @property
    def database_url(self) -> str:
        return self._postgres.url() if self._postgres else self._options.database_url or ""

    async def __aenter__(self) -> Self:
        state_dir = make_dir(self._options.state_dir, purpose="the stack's state")
        try:
            self._exit.enter_context(locked(state_dir))
            self._exit.push_async_callback(self._stop_parts)
            if self._options.fresh:
                _empty(state_dir)
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def wait(self) -> None:
        """Never returns: raises the error of the first part that stays dead."""
        done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_COMPLETED)
        for keeper in done:
            keeper.result()

    def pid(self, name: str) -> int | None:
        """Process id of a running part: "kafka", "postgres", "gateway" or "worker"."""
        child = self._parts[name].child
        return child.pid if child and child.exit_status is None else None

    def kill(self) -> None:
        """End every child immediately, for a user who will not wait."""
        for part in self._parts.values():
            if part.child:
                part.child.kill()

    async def _start(self) -> None:
        options = self._options
        if options.gateway:
            self._api_port = choose_port(
                options.api_port,
                host=options.api_host,
                purpose="the API",
                setting="--api-port (NIYAMA_API_PORT)",
            )
        kafka, postgres = [], []
        if not options.kafka_bootstrap:
            self._kafka = LocalKafka(options.state_dir / "kafka", port=options.kafka_port)
            kafka.append(self._launch("kafka", self._kafka))
        if not options.database_url:
            self._postgres = LocalPostgres(options.state_dir / "postgres")
            postgres.append(self._launch("postgres", self._postgres))
        await self._all(postgres)
        if options.gateway:
            await self._migrate()  # while Kafka, which takes longer, still starts
        await self._all(kafka)
        await self._all(self._launch(name, part) for name, part in self._commands())

    def _commands(self) -> Iterator[tuple[str, Part]]:
        if self._options.worker:
            yield "worker", self._worker()
        if self._options.gateway:
            yield "gateway", self._gateway()

    def _launch(self, name: str, part: Part) -> asyncio.Event:
        """Keep `part` running. The event is set once it is ready."""
        ready = asyncio.Event()
        keeper = keep_running(name, part, ready=ready, notify=self._notify)
        self._parts[name] = part
        self._keepers.append(asyncio.create_task(keeper))
        return ready

    async def _all(self, ready: Iterable[asyncio.Event]) -> None:
        """Return when all are set; raise the error of a part that gives up first."""
        for event in list(ready):
            waiting = asyncio.create_task(event.wait())
            try:
                done, _ = await asyncio.wait(
                    [waiting, *self._keepers], return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                waiting.cancel()
            for task in done - {waiting}:
                task.result()

    async def _stop_parts(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for name in (name for name in STOP_ORDER if name in self._parts):
            self._notify(Notice(name, "stopping"))
            await self._parts[name].stop()

    async def _migrate(self) -> None:
        try:
            await run_command("migrate", folder=self._folder("migrate"), env=self._env())
        except ChildDiedError as error:
            raise LocalStackError(f"the ledger's database cannot be migrated: {error}") from error

    def _gateway(self) -> LocalCommand:
        settings = {
            "NIYAMA_API_HOST": self._options.api_host,
            "NIYAMA_API_PORT": str(self._api_port),
            "NIYAMA_CREATE_REPLY_TOPICS": "true",
        }
        return LocalCommand(
            "gateway",
            [],
            folder=self._folder("gateway"),
            env=self._env() | settings,
            address=self.api_url,
            start_timeout_s=START_TIMEOUT_S,
            stop_grace_s=GATEWAY_STOP_GRACE_S,
        )

    def _worker(self) -> LocalCommand:
        self._worker_port = choose_port(
            self._options.health_port,
            purpose="the worker's metrics",
            setting="--health-port (NIYAMA_HEALTH_PORT)",
        )
        return LocalCommand(
            "worker",
            self._options.worker_arguments,
            folder=self._folder("worker"),
            env=self._env() | {"NIYAMA_HEALTH_PORT": str(self._worker_port)},
            address=self.worker_url,
            start_timeout_s=None,  # a large model takes long to load
            stop_grace_s=WORKER_STOP_GRACE_S,
        )

    def _env(self) -> dict[str, str]:
        model = {"NIYAMA_MODEL": self._options.model} if self._options.model else {}
        return {
            "NIYAMA_KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "NIYAMA_DATABASE_URL": self.database_url,
            "NIYAMA_LOG_FORMAT": os.environ.get("NIYAMA_LOG_FORMAT", "text"),  # for people to read
            **model,
            **self._options.env,
        }

    def _folder(self, name: str) -> Path:
        return self._options.state_dir / name


def _empty(state_dir: Path) -> None:
    for name in ("kafka", "postgres", "migrate", "gateway", "worker"):
        if (state_dir / name).exists():
            shutil.rmtree(state_dir / name)
