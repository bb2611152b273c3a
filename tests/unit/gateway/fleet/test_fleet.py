"""Which workers there are, on virtual time."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.fleet import fleet
from gateway.fleet.fleet import Fleet, WorkerState
from schemas import JobError, LoadReport
from schemas.decode import decode_load
from schemas.topics import worker_key
from tests.support.clock import Clock
from tests.support.loads import load_report


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(clock: Clock) -> Fleet:
    return Fleet(clock)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The records that were decoded."""
    records = []

    def decode(record: bytes) -> LoadReport | JobError:
        records.append(record)
        return decode_load(record)

    monkeypatch.setattr(fleet, "decode_load", decode)
    return records


def hear(workers: Fleet, name: str, age_s: float = 0.0, **fields: Any) -> None:
    report = load_report(name, **fields)
    workers.heard(worker_key(report.pool, name), report.to_bytes(), age_s)


async def states(workers: Fleet) -> dict[str, WorkerState]:
    return {each.report.worker_id: each.state for each in await workers.in_turns()}


async def test_a_worker_that_stopped_reporting_is_gone_and_then_forgotten(
    workers: Fleet, clock: Clock
) -> None:
    hear(workers, "w1")
    clock.now_s += 4
    hear(workers, "w2")
    assert await states(workers) == {"w1": WorkerState.SERVING, "w2": WorkerState.SERVING}
    clock.now_s += 4
    assert await states(workers) == {"w1": WorkerState.GONE, "w2": WorkerState.SERVING}
    clock.now_s += 293
    assert await states(workers) == {"w2": WorkerState.GONE}
    hear(workers, "w2")
    assert await states(workers) == {"w2": WorkerState.SERVING}


async def test_one_that_drains_says_so_and_one_that_ended_in_order_is_not_there(
    workers: Fleet,
) -> None:
    hear(workers, "w1", draining=True)
    hear(workers, "w2")
    assert await states(workers) == {"w1": WorkerState.DRAINING, "w2": WorkerState.SERVING}
    workers.withdrawn(b"default/w1")
    workers.withdrawn(b"unknown")
    assert await states(workers) == {"w2": WorkerState.SERVING}


async def test_a_report_that_is_old_when_it_is_read_is_of_nobody(workers: Fleet) -> None:
    hear(workers, "w1", age_s=2)
    hear(workers, "w2", age_s=600)
    assert await states(workers) == {"w1": WorkerState.SERVING}


async def test_a_gateway_that_reads_late_does_not_lose_the_workers_it_knows(
    workers: Fleet, clock: Clock
) -> None:
    hear(workers, "w1")
    clock.now_s += 61
    hear(workers, "w1", age_s=61, running_decodes=2)
    (worker,) = workers.all()
    assert (worker.state, worker.report.running_decodes) == (WorkerState.SERVING, 2)


async def test_workers_are_listed_by_pool_and_name(workers: Fleet) -> None:
    for pool, name in (("b", "1"), ("a", "2"), ("a", "1")):
        hear(workers, name, pool=pool)
    listed = [(each.report.pool, each.report.worker_id) for each in workers.all()]
    assert listed == [("a", "1"), ("a", "2"), ("b", "1")]


async def test_only_the_last_report_of_a_worker_is_decoded_and_only_once(
    workers: Fleet, decoded: list[bytes]
) -> None:
    for decodes in range(100):
        hear(workers, "w1", running_decodes=decodes)
    assert decoded == []
    for _ in range(2):
        (worker,) = workers.all()
        assert worker.report.running_decodes == 99
    assert len(decoded) == 1


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"schema_version": 9}',
        load_report("w2").to_bytes(),
        load_report("w1", pool="other").to_bytes(),
    ],
)
async def test_a_record_that_is_no_report_of_its_key_is_of_nobody(
    workers: Fleet, record: bytes, decoded: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    hear(workers, "w3")
    for _ in range(3):
        workers.heard(b"default/w1", record)
        for _ in range(2):
            assert list(await states(workers)) == ["w3"]
    assert decoded.count(record) == 3
    assert [each.levelno for each in caplog.records] == [logging.WARNING]  # one for the three


async def test_however_many_names_there_are_memory_is_bounded(
    workers: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "MAX_WORKERS", 3)
    for number in range(5):
        hear(workers, f"w{number}")
    assert list(await states(workers)) == ["w2", "w3", "w4"]


async def test_however_large_reports_are_memory_is_bounded(
    workers: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(load_report("w0").to_bytes())
    monkeypatch.setattr(fleet, "MAX_HELD_BYTES", 3 * size + 10)
    for number in range(5):
        hear(workers, f"w{number}")
    assert list(await states(workers)) == ["w2", "w3", "w4"]
    hear(workers, "w2", model="a much longer name")  # in the place of its last one
    assert list(await states(workers)) == ["w2", "w4"]
    workers.withdrawn(b"default/w2")
    hear(workers, "w5")
    hear(workers, "w6")
    assert list(await states(workers)) == ["w4", "w5", "w6"]


@pytest.mark.parametrize("junk", [b"{", load_report("another").to_bytes()])
async def test_records_with_made_up_keys_take_no_workers_place(
    workers: Fleet, monkeypatch: pytest.MonkeyPatch, junk: bytes
) -> None:
    monkeypatch.setattr(fleet, "MAX_WORKERS", 10)
    real = {f"w{number}": WorkerState.SERVING for number in range(5)}
    for _ in range(2):
        for name in real:
            hear(workers, name)
        assert await states(workers) == real  # somebody asks
    for number in range(100):
        workers.heard(b"default/x%d" % number, junk)
    hear(workers, "w0")
    hear(workers, "w5")  # which begins just now
    assert await states(workers) == real | {"w5": WorkerState.SERVING}


async def test_many_reports_are_decoded_in_turns(
    workers: Fleet, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]
) -> None:
    monkeypatch.setattr(fleet, "DECODED_AT_ONCE_BYTES", 1)
    for number in range(5):
        hear(workers, f"w{number}")
    asking = asyncio.ensure_future(workers.in_turns())
    for turn in range(5):
        assert len(decoded) == turn
        await asyncio.sleep(0)
    hear(workers, "w5")  # while some have not been looked at
    assert len(await asking) == 6
