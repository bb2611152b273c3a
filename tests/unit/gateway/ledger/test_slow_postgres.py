"""A Postgres that is slow delays the ledger; it does not keep it from anything for good."""

import asyncio
from collections.abc import Collection, Sequence
from types import SimpleNamespace

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.ledger import catch_up, consumer
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.positions import Offsets, Positions
from gateway.ledger.records import Entry
from gateway.ledger.writer import OffsetStep, Written
from gateway.postgres.connection import STATEMENT_TIMEOUT_S
from gateway.settings import GatewaySettings
from tests.support.records import FakeRecord
from tests.support.virtual_time import run_in_virtual_time

TOPICS = GatewaySettings().topics
JOBS = TopicPartition(TOPICS.interactive.name, 0)
EVENTS = TopicPartition(TOPICS.events.name, 0)
OTHERS = [TopicPartition(spec.name, 0) for spec in (*TOPICS.jobs, TOPICS.control)]
JOB_INTERVAL_S = 0.5
FETCH_S = 0.01


class Log(AIOKafkaConsumer):  # type: ignore[misc]
    """A backlog of jobs; then a job, and an event, at every interval.

    As aiokafka does, it fetches while nobody polls. A poll returns what has been fetched at once,
    and does not wait for partitions that were just resumed.
    """

    def __init__(self, backlog: int) -> None:
        self.positions = dict.fromkeys([*OTHERS, EVENTS], 0)
        self._backlog = backlog
        self._fetched_s: dict[TopicPartition, float] = {}
        """When each partition that is not paused has been fetched."""

    def __del__(self) -> None:
        """Nothing was started."""

    def assignment(self) -> Collection[TopicPartition]:
        return self.positions.keys()

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def pause(self, *partitions: TopicPartition) -> None:
        for part in partitions:
            self._fetched_s.pop(part, None)

    def resume(self, *partitions: TopicPartition) -> None:
        for part in partitions:
            self._fetched_s.setdefault(part, asyncio.get_running_loop().time() + FETCH_S)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    async def commit(self, offsets: object) -> None:
        """The group knows."""

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> Offsets:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> Offsets:
        return {part: self.end(part) for part in partitions}

    def end(self, part: TopicPartition) -> int:
        published = int(asyncio.get_running_loop().time() / JOB_INTERVAL_S) + 1
        return {JOBS: self._backlog + published, EVENTS: published}.get(part, 0)

    async def getmany(
        self, *, timeout_ms: int = 0, max_records: int = 0
    ) -> dict[TopicPartition, list[FakeRecord]]:
        polled = self._fetched(max_records)
        if not polled:
            await asyncio.sleep(timeout_ms / 1000)
            polled = self._fetched(max_records)
        return polled

    def _fetched(self, max_records: int) -> dict[TopicPartition, list[FakeRecord]]:
        now_s, polled = asyncio.get_running_loop().time(), {}
        for part in [part for part, at_s in self._fetched_s.items() if at_s <= now_s]:
            start = self.positions[part]
            until = min(self.end(part), start + max_records)
            if start < until:
                polled[part] = [
                    FakeRecord(None, *part, offset=offset) for offset in range(start, until)
                ]
                self.positions[part] = until
                self._fetched_s[part] = now_s + FETCH_S
                max_records -= until - start
        return polled


class Postgres:
    """Takes a time for every statement, and for every record; it cancels what takes too long."""

    def __init__(self, statement_s: float, record_s: float) -> None:
        self._statement_s = statement_s
        self.record_s = record_s
        self.offsets: Offsets = {}
        self.cancelled: list[int] = []

    def terminate(self) -> None:
        """Every session is the same."""

    async def read_offsets(self, _: object, partitions: Collection[TopicPartition]) -> Offsets:
        await asyncio.sleep(self._statement_s)
        return {part: self.offsets.get(part, 0) for part in partitions}

    async def write(
        self, _: object, entries: Sequence[Entry], steps: Sequence[OffsetStep]
    ) -> Written:
        records = sum(step.until - step.since for step in steps)
        await asyncio.sleep(min(STATEMENT_TIMEOUT_S, records * self.record_s))
        if records * self.record_s > STATEMENT_TIMEOUT_S:
            self.cancelled.append(records)
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        await asyncio.sleep(3 * self._statement_s)
        self.offsets |= {TopicPartition(step.topic, step.partition): step.until for step in steps}
        return Written((), 0, 0)


async def follow(log: Log, postgres: Postgres, until_s: float) -> None:
    """Run a ledger's consumer up to this time."""
    loop = asyncio.get_running_loop()
    clock = SimpleNamespace(monotonic=loop.time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer, "time", clock)
        patch.setattr(catch_up, "time", clock)
        patch.setattr(consumer, "load_offsets", postgres.read_offsets)
        patch.setattr(consumer, "read_offsets", postgres.read_offsets)
        patch.setattr(consumer, "write", postgres.write)
        patch.setattr(consumer, "connect", connect_to(postgres))
        ledger, positions = LedgerConsumer(GatewaySettings()), Positions(log)
        while loop.time() < until_s:
            await ledger._step(log, positions)


def connect_to(postgres: Postgres) -> object:
    async def connect(*_: object, **__: object) -> Postgres:
        return postgres

    return connect


@pytest.mark.parametrize("statement_s", [0.05, 0.6, 0.7, 1.0, 2.0])
def test_events_are_read_although_every_write_takes_long_and_jobs_keep_coming(
    statement_s: float,
) -> None:
    postgres = Postgres(statement_s, record_s=0)

    async def main() -> int:
        log = Log(backlog=0)
        await follow(log, postgres, 600)
        return log.end(EVENTS)

    published = run_in_virtual_time(main())
    assert postgres.offsets[JOBS] > published - 60
    assert postgres.offsets[EVENTS] > published - 60


@pytest.mark.parametrize("record_s", [0.005, 0.05, 15])
def test_a_poll_that_takes_too_long_is_tried_with_fewer_records(record_s: float) -> None:
    postgres = Postgres(0.001, record_s)

    run_in_virtual_time(follow(Log(backlog=20_000), postgres, 600))

    assert postgres.offsets[JOBS] >= min(20_000, 0.5 * 600 / record_s)
    assert len(postgres.cancelled) <= (5_000).bit_length()


def test_polls_grow_again_when_postgres_is_fast_again() -> None:
    postgres = Postgres(0.001, record_s=1)

    async def main() -> None:
        asyncio.get_running_loop().call_at(300, setattr, postgres, "record_s", 0.0001)
        await follow(Log(backlog=30_000), postgres, 360)

    run_in_virtual_time(main())
    assert postgres.offsets[JOBS] > 30_000
