"""Faults from outside: what there is, when each one comes, and carrying it out."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import psutil

from tests.chaos.stack import GATEWAYS, ChaosStack

WARM_UP_S = 10.0
"""Without faults, to learn what normal latency is."""
CALM_END_S = 10.0
QUIET_S = 15.0
QUIET_SHARE = 0.15
"""After so many of the faults comes a pause of QUIET_S, in which recovery can be measured."""
TARGET_PATIENCE_S = 10.0
"""How long a fault waits for a target that is still down from another one."""
STORM_STAY_S = 1.5
POLL_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A way to break something."""

    name: str
    part: str
    """What it hits: worker, gateway, kafka or postgres."""
    weight: int
    """How often it comes, against the others."""
    duration_s: tuple[float, float] = (0.0, 0.0)
    """Least and most."""
    engine: str | None = None
    """Only with this engine."""


KINDS = {
    kind.name: kind
    for kind in (
        FaultKind("worker-kill", "worker", 4),
        FaultKind("worker-term", "worker", 2),
        FaultKind("worker-freeze-short", "worker", 2, (0.5, 4)),
        FaultKind("worker-freeze-long", "worker", 2, (8, 14)),  # the session ends meanwhile
        FaultKind("gateway-kill", "gateway", 3),
        FaultKind("gateway-term", "gateway", 1),
        FaultKind("gateway-freeze-short", "gateway", 2, (0.5, 4)),
        FaultKind("gateway-freeze-long", "gateway", 1, (8, 14)),
        FaultKind("kafka-kill", "kafka", 1),
        FaultKind("kafka-freeze", "kafka", 1, (1, 12)),
        FaultKind("postgres-kill", "postgres", 2),
        FaultKind("postgres-freeze", "postgres", 2, (1, 12)),
        FaultKind("rebalance-storm", "worker", 1, (8, 12)),
        FaultKind("disk-full", "postgres", 1, (2, 6)),
        FaultKind("engine-kill", "worker", 3, engine="sglang"),
        FaultKind("engine-freeze", "worker", 2, (5, 20), "sglang"),  # some beyond the hang limit
    )
}


def kinds_for(engine: str) -> list[str]:
    return [kind.name for kind in KINDS.values() if kind.engine in (None, engine)]


@dataclass(frozen=True, slots=True)
class PlannedFault:
    at_s: float
    """From the start of the load."""
    kind: str
    target: str
    duration_s: float
    choice: float
    """In [0, 1): which of several, where the target has several."""


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault as it happened, in UTC epoch seconds."""

    kind: str
    target: str
    started_at_s: float
    ended_at_s: float
    skipped: str = ""
    """Why it did not happen, if it did not."""


def plan_faults(
    seed: int,
    duration_s: float,
    kinds: Collection[str],
    workers: Collection[str],
    mean_gap_s: float,
) -> list[PlannedFault]:
    """Faults over `duration_s`, one every `mean_gap_s`, with some pauses between them.

    They may overlap, and end before the load does. The same arguments give the same faults.
    """
    choose = random.Random(f"{seed}/faults")
    drawn = [KINDS[name] for name in KINDS if name in kinds]  # in one order, however named
    return list(_planned(choose, drawn, duration_s, sorted(workers), mean_gap_s))


def _planned(
    choose: random.Random,
    kinds: list[FaultKind],
    duration_s: float,
    workers: list[str],
    mean_gap_s: float,
) -> Iterator[PlannedFault]:
    at_s = WARM_UP_S
    while kinds:
        at_s += choose.uniform(0.3, 1.7) * mean_gap_s
        kind = choose.choices(kinds, [each.weight for each in kinds])[0]
        lasts_s = choose.uniform(*kind.duration_s)
        target = choose.choice(_targets(kind, workers))
        choice = choose.random()
        quiet_s = lasts_s + QUIET_S if choose.random() < QUIET_SHARE else 0.0
        if at_s > duration_s - CALM_END_S:
            return
        if at_s + lasts_s <= duration_s:
            yield PlannedFault(at_s, kind.name, target, lasts_s, choice)
            at_s += quiet_s


def _targets(kind: FaultKind, workers: list[str]) -> list[str]:
    if kind.name == "rebalance-storm":
        return ["worker-extra"]
    return {"worker": workers, "gateway": list(GATEWAYS)}.get(kind.part, [kind.part])


class _CannotInjectError(Exception):
    """The fault cannot be carried out here, or now."""


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
        except (psutil.NoSuchProcess, _CannotInjectError) as error:
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
            raise _CannotInjectError(f"{name} was down already") from None
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    def _runs(self, name: str) -> bool:
        return name == "worker-extra" or self._stack.process(name) is not None

    async def _carry_out(self, fault: PlannedFault) -> None:
        match fault.kind.split("-"):
            case ["rebalance", "storm"]:
                await self._storm(fault.duration_s)
            case ["disk", "full"]:
                await self._fill_disk(fault.duration_s)
            case ["engine", how]:
                worker = self._process(fault.target)
                children = worker.children(recursive=True)
                if not children:
                    raise _CannotInjectError(f"{fault.target} has no engine process")
                child = children[int(fault.choice * len(children))]
                self._stack.doom(worker)  # its engine's death is its own
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
            raise _CannotInjectError(f"{name} was down already")
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

    async def _fill_disk(self, duration_s: float) -> None:
        disk = self._stack.disk
        if disk is None:
            raise _CannotInjectError("no tmpfs can be mounted here (root only)")
        if not disk.fill():
            raise _CannotInjectError("the tmpfs could not be made smaller")
        postgres = self._stack.process("postgres")
        if postgres is not None:
            self._stack.doom(postgres)  # it panics when it cannot write its log
        try:
            await asyncio.sleep(duration_s)
        finally:
            disk.free()


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
