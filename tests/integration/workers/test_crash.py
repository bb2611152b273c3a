"""Workers and engines die: nothing is lost, and jobs that kill them are given up."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from niyama.errors import UnavailableError
from schemas import EventType, headers
from tests.support.workers import Harness
from workers.engine.null import NullEngine
from workers.engine.port import (
    EngineDead,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.offsets.attempts import SUSPECT_CRASHES
from workers.policy.decision import Decision, DecisionKind
from workers.settings import WorkerSettings

MAIN = "import sys; from workers.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def session_timeout_s() -> int:
    """The least that brokers allow: the tests wait for the end of a dead worker's."""
    return 6


@contextmanager
def _process(
    settings: WorkerSettings, code: str, *arguments: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker in a process of its own, killed at the end if it is still alive."""
    names = ("kafka_bootstrap", "topic_prefix", "pool", "session_timeout_s", "model", "engine")
    env = {f"NIYAMA_{name.upper()}": str(getattr(settings, name)) for name in names}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ | env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def test_a_killed_worker_loses_nothing_and_repeats_only_what_it_had_in_flight(
    harness: Harness,
) -> None:
    pace = ("--null-token-delay-ms", "50")
    with (
        _process(harness.settings, MAIN, *pace) as first,
        _process(harness.settings, MAIN, *pace) as second,
    ):
        jobs = [await harness.publish(max_tokens=10) for _ in range(40)]
        await harness.until(
            lambda: sum(map(bool, map(harness.ended, jobs))) >= 5, "some to complete"
        )
        jobs += [await harness.publish(max_tokens=10) for _ in range(20)]
        first.send_signal(signal.SIGKILL)
        ended = await harness.until_ended(*jobs)
        assert all(event.type is EventType.COMPLETED for event in ended)
        completions = Counter(e.job_id for e in harness.events if e.type is EventType.COMPLETED)
        assert max(completions.values()) <= 2
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0


class FragileEngine(NullEngine):
    """One prompt kills it, and everything in it."""

    def __init__(self, dies_in: str, *, hangs: bool) -> None:
        """`hangs`: the other prompts do not end before the engine does."""
        super().__init__("null", token_delay_s=0.01)
        self.death = asyncio.Event()
        self._dies_in = dies_in
        self._hangs = hangs
        self._poison: set[str] = set()

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        if request.prompt == "poison":
            self._poison.add(request.request_id)
            if self._dies_in == "prepare":
                await self._die()
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        async for update in super().generate(prepared):
            if prepared.request_id in self._poison:
                await self._die()
            yield update
            while self._hangs and not self._dead:
                await asyncio.sleep(0.01)

    async def _die(self) -> None:
        self.death.set()
        if self._dies_in == "engine":
            self._dead = True
            raise EngineDead("out of memory")
        await asyncio.Event().wait()  # the whole process dies: see the test


@pytest.mark.parametrize("dies_in", ["prepare", "generate", "engine"])
async def test_a_job_that_kills_is_given_up_and_its_neighbours_are_not(
    harness: Harness, dies_in: str
) -> None:
    """With its engine, or the process with it: that is cancelled and says nothing more."""
    neighbours = [await harness.publish(max_tokens=50) for _ in range(10)]
    poison = await harness.publish("poison")
    deaths = 0
    while not harness.ended(poison) and deaths < 10:
        engine = FragileEngine(dies_in, hangs=deaths == 0)  # no neighbour outruns the first death
        worker = await harness.worker_on(engine, max_attempts=2)
        await harness.until(
            lambda w=worker: w.engine.death.is_set() or harness.ended(poison),
            "a death, or the poison's end",
        )
        if worker.engine.death.is_set():
            deaths += 1
            if dies_in == "engine":
                with pytest.raises(UnavailableError, match="the engine died: out of memory"):
                    await worker.task
            else:
                worker.task.cancel()
                await asyncio.wait([worker.task])
    assert deaths == SUSPECT_CRASHES + 2
    failed = harness.ended(poison)
    assert (failed.type, failed.error.code) == (EventType.FAILED, "too_many_attempts")
    await harness.until(lambda: bool(harness.dead_letters), "the dead letter")
    letter = dict(harness.dead_letters[0].headers)
    assert letter[headers.REASON_CODE] == b"too_many_attempts"
    ended = await harness.until_ended(*neighbours)
    assert {event.type for event in ended} == {EventType.COMPLETED}
    assert EventType.RETRIED in harness.types(neighbours[0])


class SilentEngine(NullEngine):
    """Dies while nothing runs."""

    async def decisions(self) -> AsyncIterator[Decision]:
        yield Decision("unknown", DecisionKind.STARTED, 0.0)
        raise EngineDead("its process is gone")


async def test_an_engine_that_dies_idle_ends_the_worker(harness: Harness) -> None:
    with pytest.raises(UnavailableError, match="its process is gone"):
        await (await harness.worker_on(SilentEngine())).task


class ConfusedEngine(NullEngine):
    """Has a bug that one prompt triggers."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        if request.prompt == "confusing":
            raise KeyError("confusing")
        return await super().prepare(request)


async def test_an_unexpected_error_fails_the_job_and_not_the_worker(harness: Harness) -> None:
    await harness.worker_on(ConfusedEngine())
    confusing = await harness.publish("confusing")
    fine = await harness.publish()
    failed, completed = await harness.until_ended(confusing, fine)
    assert failed.error.code == "engine_error"
    assert "KeyError" in failed.error.message
    assert completed.type is EventType.COMPLETED
