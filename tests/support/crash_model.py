"""Workers that are killed from outside, and jobs that kill workers, in virtual time.

Intake, offsets and execution are the real ones. Kafka, the engine and death are made up.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto

from schemas import JobEvent, QosCatalog
from tests.support.consumer_group import PARTITION, FakeConsumer, FakeGroup, partitions_of
from tests.support.records import TOPICS, FakeRecord, job_bytes
from tests.support.senders import FakeSender
from workers.engine.port import (
    EngineDead,
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJobs
from workers.intake.admission import Admission
from workers.intake.backpressure import Budget, Limits
from workers.intake.cancellations import Cancellations
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import PollLoop
from workers.offsets.attempts import CrashLimit
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.batch_sender import OutgoingRecord
from workers.reporting.reporter import Reporter

MAX_ATTEMPTS = 3
COMMIT_INTERVAL_S = 0.2
DELIVERY_S = 0.002
RESTART_S = 5.0
STARTED_DELAY_S = 0.005
"""Until the worker learns that the engine has started on a request."""
HANG_LIMIT_S = 60.0
"""After so long without a sign of life the engine counts as dead."""
EVENTS = TOPICS.events.name


class Killer(Enum):
    """What a job does."""

    NONE = auto()
    IN_PREPARE = auto()
    """Kills the process while it is prepared."""
    IN_PREFILL = auto()
    """Kills the process when its prefill starts."""
    OF_ENGINE = auto()
    """Kills the engine when its prefill starts: the worker sees it."""
    HANGS_IN_PREPARE = auto()
    """Hangs a thread that prepares requests: everything else goes on until the hang is noticed."""
    HANGS_WHEN_SUBMITTED = auto()
    """Hangs the engine as soon as it gets the request."""
    HANGS_IN_PREFILL = auto()
    """Hangs the engine when its prefill starts."""


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, from a seed."""

    seed: int
    innocents: int
    killers: tuple[Killer, ...]
    outside_kills: int
    kill_gap_s: float
    """Mean time between kills from outside."""


@dataclass(slots=True)
class Outcome:
    """How it ended."""

    ends: dict[str, JobEvent] = field(default_factory=dict)
    """By prompt: the first terminal event."""
    deaths_by_job: Counter[str] = field(default_factory=Counter)
    """By the prompt of the job that caused them."""
    commits: int = 0


class World:
    """One partition of jobs and one worker at a time."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.choose = random.Random(story.seed)
        self.outcome = Outcome()
        names = [f"innocent-{number}" for number in range(story.innocents)]
        names += [f"killer-{number}" for number in range(len(story.killers))]
        self.choose.shuffle(names)
        self.names = names
        self.group = FakeGroup([_record(offset, name) for offset, name in enumerate(names)])

    def nature_of(self, prompt: str) -> Killer:
        kind, _, number = prompt.partition("-")
        return self.story.killers[int(number)] if kind == "killer" else Killer.NONE

    async def run(self, limit_s: float) -> Outcome:
        """Let workers run, one after the other, until every job has ended."""
        kills = asyncio.create_task(self._kill_from_outside())
        async with asyncio.timeout(limit_s):
            while self._is_open():
                self.worker = ModelWorker(self)
                await self.worker.run()
                await asyncio.sleep(RESTART_S)
        kills.cancel()
        self.outcome.commits = self.group.commits
        return self.outcome

    def _is_open(self) -> bool:
        return self.group.committed.offset < len(self.names)

    async def _kill_from_outside(self) -> None:
        for _ in range(self.story.outside_kills):
            await asyncio.sleep(self.choose.expovariate(1 / self.story.kill_gap_s))
            self.worker.die()


class ModelWorker:
    """One process."""

    def __init__(self, world: World) -> None:
        clock = asyncio.get_running_loop().time
        self.world = world
        self.is_dead = False
        self._death = asyncio.Event()
        self.consumer = FakeConsumer(world.group)
        self.partitions = partitions_of(self.consumer, clock)
        self.in_flight = InFlightJobs()
        engine, sender = ModelEngine(self), ModelSender(self)
        budget = Budget(jobs=50, prompt_tokens=1_000_000, memory_bytes=2**30)
        limits = Limits(interactive=budget, batch=budget)
        flow = FlowControl(self.consumer, self.partitions, self.in_flight, sender, TOPICS, limits)
        reporter = Reporter(sender, TOPICS, worker_id="w", pool="default", clock=clock)
        self.executor = Executor(
            engine,
            self.in_flight,
            reporter,
            partitions=self.partitions,
            on_job_left=flow.update,
            clock=clock,
        )
        dispatcher = Dispatcher(
            Admission("m", QosCatalog.shipped()),
            self.in_flight,
            self.executor,
            reporter,
            Cancellations(),
            crash_limit=CrashLimit(MAX_ATTEMPTS),
            clock=clock,
        )
        self.poll_loop = PollLoop(self.consumer, self.partitions, flow, dispatcher, lambda *_: None)
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serve until it dies, or everything is committed."""
        await self.partitions.assign({PARTITION})
        self.poll_loop.rebalanced()
        self._start(self.poll_loop.run())
        self._start(self.partitions.keep_committed(COMMIT_INTERVAL_S))
        self._start(self.executor.follow_decisions())
        self._start(self._watch_engine())
        self._start(self._until_done())
        await self._death.wait()
        tasks = [*self._tasks, *(job.task for job in self.in_flight if job.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def die(self) -> None:
        """What SIGKILL does: nothing that it does from now on has any effect."""
        self.is_dead = True
        self.consumer.is_member = False
        self._death.set()

    def killed_by(self, prompt: str) -> None:
        if not self.is_dead:
            self.world.outcome.deaths_by_job[prompt] += 1

    async def _watch_engine(self) -> None:
        """What `workers.worker` does when the engine dies."""
        try:
            await self.executor.watch_engine()
        except EngineDead:
            self.executor.engine_died()
            await self.partitions.write_ahead([job.tracked for job in self.in_flight])
            self.die()

    async def _until_done(self) -> None:
        while self.world._is_open():
            await asyncio.sleep(0.5)
        self.die()

    def _start(self, service: Coroutine[object, object, None]) -> None:
        self._tasks.append(asyncio.create_task(service))


class ModelSender(FakeSender):
    """Delivers after a moment, unless its worker has died."""

    def __init__(self, worker: ModelWorker) -> None:
        super().__init__()
        self._worker = worker

    def put(self, topic: str, record: OutgoingRecord) -> None:
        asyncio.get_running_loop().call_later(DELIVERY_S, self._deliver, topic, record)

    def _deliver(self, topic: str, record: OutgoingRecord) -> None:
        if self._worker.is_dead:
            return
        if topic == EVENTS:
            event = JobEvent.model_validate_json(record.value or b"")
            if event.type.is_terminal:
                assert event.source is not None
                name = self._worker.world.names[event.source.offset]
                self._worker.world.outcome.ends.setdefault(name, event)
        if record.on_delivered is not None:
            record.on_delivered()


class ModelEngine:
    """Runs a few requests at a time; their durations are drawn."""

    model = "m"

    def __init__(self, worker: ModelWorker) -> None:
        self._worker = worker
        self._choose = worker.world.choose
        self._slots = asyncio.Semaphore(4)
        self._decisions: asyncio.Queue[Decision] = asyncio.Queue()
        self._prompts: dict[str, str] = {}
        self._dead = asyncio.Event()
        self._generates = asyncio.Event()
        self._generates.set()
        self._silent_since_s = math.inf

    @property
    def silence_s(self) -> float:
        return max(0.0, asyncio.get_running_loop().time() - self._silent_since_s)

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        prompt = self._prompts[request.request_id] = request.prompt or ""
        await asyncio.sleep(self._choose.uniform(0.001, 0.05))
        match self._worker.world.nature_of(prompt):
            case Killer.IN_PREPARE:
                self._worker.killed_by(prompt)
                self._worker.die()
            case Killer.HANGS_IN_PREPARE:
                await self._hang(prompt)
        self._raise_if_dead()
        return PreparedRequest(request.request_id, 10, 10)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        prompt = self._prompts[prepared.request_id]
        await self._iteration()
        if self._worker.world.nature_of(prompt) is Killer.HANGS_WHEN_SUBMITTED:
            await self._hang_generation(prompt)
        async with self._slots:
            await self._iteration()
            asyncio.get_running_loop().call_later(STARTED_DELAY_S, self._started, prepared)
            await asyncio.sleep(self._choose.uniform(0.01, 0.3))
            await self._maybe_kill(prompt)
            for token in range(10):
                await self._iteration()
                yield GenerationUpdate(
                    "t", (1,), 10, token + 1, 0, FinishReason.LENGTH if token == 9 else None
                )
                await asyncio.sleep(self._choose.expovariate(1 / 0.3))

    def abort(self, request_id: str) -> None:
        """Nothing is cancelled here."""

    async def decisions(self) -> AsyncIterator[Decision]:
        while True:
            yield await self._decisions.get()

    def _started(self, prepared: PreparedRequest) -> None:
        now_s = asyncio.get_running_loop().time()
        self._decisions.put_nowait(Decision(prepared.request_id, DecisionKind.STARTED, now_s))

    async def _maybe_kill(self, prompt: str) -> None:
        await self._iteration()
        match self._worker.world.nature_of(prompt):
            case Killer.IN_PREFILL:
                self._worker.killed_by(prompt)
                self._worker.die()
            case Killer.OF_ENGINE:
                self._die_of(prompt)
            case Killer.HANGS_IN_PREFILL:
                await self._hang_generation(prompt)
        self._raise_if_dead()

    async def _iteration(self) -> None:
        """Wait for the engine's next one."""
        await self._generates.wait()
        self._raise_if_dead()

    async def _hang_generation(self, prompt: str) -> None:
        self._generates.clear()
        await self._hang(prompt)

    async def _hang(self, prompt: str) -> None:
        """Until somebody notices."""
        now_s = asyncio.get_running_loop().time()
        self._silent_since_s = min(self._silent_since_s, now_s)
        await asyncio.sleep(HANG_LIMIT_S)
        self._die_of(prompt)
        self._raise_if_dead()

    def _die_of(self, prompt: str) -> None:
        if not self._dead.is_set():
            self._worker.killed_by(prompt)
        self._dead.set()
        self._generates.set()

    def _raise_if_dead(self) -> None:
        if self._dead.is_set():
            raise EngineDead("killed")


def _record(offset: int, prompt: str) -> FakeRecord:
    return FakeRecord(job_bytes(prompt=prompt, max_tokens=10), offset=offset, timestamp=0)
