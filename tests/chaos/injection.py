"""Carries out faults against a stack."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable

import psutil

from tests.chaos import outages
from tests.chaos.faults import InjectedFault, PlannedFault
from tests.chaos.outages import CannotInjectError
from tests.chaos.stack import ChaosStack, reply_topic
from tests.chaos.workload import DELETED_REPLY_TOPIC

TARGET_PATIENCE_S = 10.0
"""How long a fault waits for a target that is still down from another one."""
STORM_STAY_S = 1.5
POLL_INTERVAL_S = 0.1


class FaultInjector:
    """Carries out a plan against a stack, and remembers what happened."""

    def __init__(self, stack: ChaosStack, notify: Callable[[PlannedFault], None]) -> None:
        """`notify` is called when a fault begins."""
        self.injected: list[InjectedFault] = []
        self._stack = stack
        self._notify = notify
        self._busy: set[str] = set()

    async def run(self, plan: Iterable[PlannedFault]) -> None:
        """Return when the last fault has ended. When cancelled, everything frozen is resumed."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                await asyncio.sleep(start_s + fault.at_s - loop.time())
                tasks.create_task(self._inject(fault))

    async def _inject(self, fault: PlannedFault) -> None:
        skipped = ""
        try:
            async with self._target(fault.target):
                started_at_s = time.time()
                self._notify(fault)
                await self._carry_out(fault)
        except (psutil.NoSuchProcess, CannotInjectError) as error:
            started_at_s, skipped = time.time(), str(error)
        self.injected.append(
            InjectedFault(fault.kind, fault.target, started_at_s, time.time(), skipped)
        )

    @contextlib.asynccontextmanager
    async def _target(self, name: str) -> AsyncIterator[None]:
        """Hold a target that is running and that no other fault has."""
        try:
            async with asyncio.timeout(TARGET_PATIENCE_S):
                while name in self._busy or not self._runs(name):
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            raise CannotInjectError(f"{name} was down already") from None
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    def _runs(self, name: str) -> bool:
        return name == "worker-extra" or self._stack.process(name) is not None

    async def _carry_out(self, fault: PlannedFault) -> None:
        stack = self._stack
        match fault.kind.split("-"):
            case ["rebalance", "storm"]:
                await self._storm(fault.duration_s)
            case ["disk", "full"]:
                await _hold(outages.full_disk(stack), fault.duration_s)
            case ["postgres", "read", "only"]:
                await _hold(outages.read_only(stack), fault.duration_s)
            case ["delete", "reply", "topic"]:
                deleted = reply_topic(DELETED_REPLY_TOPIC)
                await _hold(outages.without_topic(stack, deleted), fault.duration_s)
            case ["delete", "tokens", "topic"]:
                deleted = stack.kafka_settings.topics.tokens
                await _hold(outages.without_topic(stack, deleted), fault.duration_s)
            case ["engine", how]:
                worker = self._process(fault.target)
                engine = _engine_processes(worker)
                if not engine:
                    raise CannotInjectError(f"{fault.target} has no engine process")
                child = engine[int(fault.choice * len(engine))]
                stack.doom(worker)  # its engine's death is its own
                await self._signal([child], how, fault.duration_s)
            case [_, how, *_]:
                process = self._process(fault.target)
                # Postgres is a family of processes, and so is a worker with an engine.
                await self._signal(
                    [process, *process.children(recursive=True)], how, fault.duration_s
                )

    def _process(self, name: str) -> psutil.Process:
        process = self._stack.process(name)
        if process is None:
            raise CannotInjectError(f"{name} was down already")
        return process

    async def _signal(self, processes: list[psutil.Process], how: str, duration_s: float) -> None:
        match how:
            case "freeze":
                await _freeze(processes, duration_s)
            case "term":
                self._stack.doom(processes[0])
                processes[0].terminate()
            case "kill":
                self._stack.doom(processes[0])
                _each(processes, psutil.Process.kill)

    async def _storm(self, duration_s: float) -> None:
        """Workers that join and leave; every other one leaves without a word."""
        end_s = time.monotonic() + duration_s
        politely = True
        while time.monotonic() < end_s:
            worker = self._stack.extra_worker()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(duration_s):
                        await worker.start()
                        await asyncio.sleep(STORM_STAY_S)
                if politely:
                    await worker.stop()
            finally:
                if worker.child is not None:
                    worker.child.kill()
            politely = not politely


async def _hold(outage: contextlib.AbstractAsyncContextManager[None], duration_s: float) -> None:
    async with outage:
        await asyncio.sleep(duration_s)


def _engine_processes(worker: psutil.Process) -> list[psutil.Process]:
    """SGLang's scheduler and detokenizer, once they serve; not Python's resource tracker."""
    return [
        child
        for child in worker.children(recursive=True)
        if "".join(child.cmdline()).startswith("sglang::")
    ]


async def _freeze(processes: list[psutil.Process], duration_s: float) -> None:
    try:
        _each(processes, psutil.Process.suspend)
        await asyncio.sleep(duration_s)
    finally:
        _each(processes, psutil.Process.resume)  # psutil checks that the pid is still theirs


def _each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)
