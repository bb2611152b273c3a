"""What a gateway measures of its ledger."""

import asyncio
from typing import NoReturn
from uuid import uuid4

import pytest

from gateway.bootstrap import build
from gateway.database import engine
from gateway.fleet.fleet import Fleet
from gateway.ledger import counts as ledger_counts
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.counts import LedgerCounts, PoolCounts
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.records import Unusable
from gateway.ledger.writer import Written
from gateway.metrics import MAX_SERIES, LedgerMetrics, observe, observe_counts, observe_pools
from gateway.settings import GatewaySettings
from niyama.telemetry.measurements import Measurements
from schemas import JobError
from schemas.load import SchedulerLoad, TopicShare
from tests.support.loads import load_report
from tests.support.metrics import metrics, numbers
from tests.support.records import FakeRecord


def counts_of(pool: str) -> LedgerCounts:
    """Of a gateway of this pool, before anything was counted."""
    return LedgerCounts(engine(GatewaySettings(), 1), pool)


def test_what_the_ledger_reads_and_how_jobs_end_is_counted() -> None:
    measurements = Measurements()
    metrics = LedgerMetrics(measurements, "g")
    metrics.stored({"events": 3, "batch": 1}, 0.02)
    metrics.written(Written((uuid4(),), 0, 0, {"completed": 1}, duplicate_endings=2))
    metrics.written(Written((), 0, 0))
    assert numbers(measurements, "messaging.client.consumed.messages") == {
        ("kafka", "poll", "events", "g"): 3,
        ("kafka", "poll", "batch", "g"): 1,
    }
    assert numbers(measurements, "niyama.ledger.ended_jobs") == {("completed",): 1}
    assert numbers(measurements, "niyama.ledger.duplicate_endings") == {(): 2}
    assert numbers(measurements, "niyama.ledger.write.duration") == {(): 1}


async def test_a_ledger_that_reads_nothing_is_not_ready() -> None:
    measurements, settings = Measurements(), GatewaySettings()
    observe(measurements, LedgerConsumer(settings), DeadLetters(settings))
    assert numbers(measurements, "niyama.ledger.ready") == {(): 0}


async def test_what_was_open_is_still_shown_when_postgres_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: object) -> NoReturn:
        raise ConnectionRefusedError

    monkeypatch.setattr(ledger_counts, "read", away)
    counts = counts_of("default")
    counts.by_pool = before = {"default": PoolCounts(overdue_jobs=5)}
    await counts._count()
    assert counts.by_pool == before


async def test_dead_letters_are_counted_by_code() -> None:
    measurements, settings = Measurements(), GatewaySettings()
    letters = DeadLetters(settings)
    observe(measurements, LedgerConsumer(settings), letters)
    error = JobError(code="invalid_json", message="no JSON")
    letters.put(Unusable(FakeRecord(), error))
    assert numbers(measurements, "niyama.dead_letters") == {("invalid_json",): 1}


async def test_what_is_open_is_shown_by_pool_and_nothing_that_is_not_known() -> None:
    measurements = Measurements()
    counts = counts_of("default")
    observe_counts(measurements, counts)
    assert measurements.collect() == []
    counts.by_pool = {"default": PoolCounts(), "eu": PoolCounts(5, 4, 3, 2)}
    assert [
        numbers(measurements, name)
        for name in (
            "niyama.ledger.open_jobs",
            "niyama.ledger.overdue_jobs",
            "niyama.replies.pending",
            "niyama.replies.undeliverable",
        )
    ] == [{("default",): 0, ("eu",): count} for count in (5, 4, 3, 2)]


async def test_counts_that_take_long_are_made_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, pauses_s = 0.0, []

    async def slow(*_: object) -> list[tuple[str, str, int]]:
        nonlocal now_s
        now_s += 1.0 if not pauses_s else 0.1
        return []

    async def wait(stopping: asyncio.Event, seconds: float) -> bool:
        pauses_s.append(seconds)
        if len(pauses_s) == 2:
            stopping.set()
        return stopping.is_set()

    monkeypatch.setattr(ledger_counts, "read", slow)
    monkeypatch.setattr(ledger_counts, "is_set_within", wait)
    counts = LedgerCounts(engine(GatewaySettings(), 1), "own", lambda: now_s)
    await counts.run()
    assert pauses_s == [pytest.approx(20.0), ledger_counts.INTERVAL_S]


async def test_a_gateway_that_does_not_measure_does_not_count() -> None:
    part = "counting what is open in the ledger"
    settings = GatewaySettings()
    assert part in build(settings)._parts
    assert part not in build(settings.model_copy(update={"metrics": False}))._parts


async def test_a_pool_shows_its_workers_and_what_waits_for_them_in_kafka() -> None:
    measurements, workers = Measurements(), Fleet(lambda: 0.0)
    observe_pools(measurements, workers, counts_of("default"))
    states = ("serving", "draining", "gone")
    assert numbers(measurements, "niyama.pool.workers") == {
        ("default", state): 0 for state in states
    }

    def share(topic: str, lag: int | None) -> TopicShare:
        return TopicShare(topic=topic, partitions=[0], jobs=0, prompt_tokens=0, lag=lag)

    known = [share("chat", 3), share("batch", 5)], [share("chat", 4), share("batch", None)]
    for number, shares in enumerate(known):
        report = load_report(
            f"{number}",
            pool="eu",
            topics=shares,
            draining=number == 1,
            scheduler=SchedulerLoad(
                waiting=0, prefilling=0, overdue=0, demand=number + 1, capacity_tokens_per_s=1
            ),
        )
        workers.heard(b"eu/%d" % number, report.to_bytes())
    workers.unread = 9
    assert numbers(measurements, "niyama.pool.workers") == {
        **{("default", state): 0 for state in states},
        ("eu", "serving"): 1,
        ("eu", "draining"): 1,
        ("eu", "gone"): 0,
    }
    assert numbers(measurements, "niyama.pool.demand") == {("eu",): 1.5}
    assert numbers(measurements, "niyama.pool.lag") == {("eu", "chat"): 7}
    assert numbers(measurements, "niyama.load_reports.lag") == {(): 9}


def test_that_load_reports_cannot_be_read_is_shown() -> None:
    measurements, workers = Measurements(), Fleet()
    observe_pools(measurements, workers, counts_of("default"))
    assert numbers(measurements, "niyama.load_reports.followed") == {(): 0}
    assert numbers(measurements, "niyama.load_reports.lag") == {}
    workers.following = True
    assert numbers(measurements, "niyama.load_reports.followed") == {(): 1}


def test_however_many_pools_there_are_series_are_bounded() -> None:
    measurements, workers = Measurements(), Fleet(lambda: 0.0)
    observe_pools(measurements, workers, counts_of("default"))
    for number in range(MAX_SERIES + 1):
        share = TopicShare(topic=f"t{number}", partitions=[0], jobs=0, prompt_tokens=0, lag=1)
        report = load_report("w", pool=f"a{number}", topics=[share])
        workers.heard(b"a%d/w" % number, report.to_bytes())
    shown = numbers(measurements, "niyama.pool.workers")
    assert len(shown) == 3 * MAX_SERIES
    assert ("default", "serving") in shown
    assert len(numbers(measurements, "niyama.pool.lag")) == MAX_SERIES


async def test_invented_pools_hide_none_that_has_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    measurements, workers = Measurements(), Fleet(lambda: 0.0)
    invented = [f"a{number:03}" for number in range(MAX_SERIES)]

    async def counted(*_: object) -> list[tuple[str, str, int]]:
        return [("open_jobs", pool, count) for pool, count in (*invented_jobs, ("real", 9))]

    invented_jobs = [(pool, 1) for pool in invented]
    monkeypatch.setattr(ledger_counts, "read", counted)
    counts = counts_of("own")
    await counts._count()
    observe_counts(measurements, counts)
    observe_pools(measurements, workers, counts)
    scheduler = SchedulerLoad(waiting=0, prefilling=0, overdue=0, demand=1, capacity_tokens_per_s=1)
    share = TopicShare(topic="t", partitions=[0], jobs=0, prompt_tokens=0, lag=1)
    for pool in [*invented, "own", "real"]:
        report = load_report("w", pool=pool, topics=[share], scheduler=scheduler)
        workers.heard(f"{pool}/w".encode(), report.to_bytes())
    for name in ("pool.workers", "pool.demand", "pool.lag", "ledger.open_jobs"):
        shown = {values[0] for values in numbers(measurements, f"niyama.{name}")}
        assert shown >= {"own", "real"}, name
        assert len(shown) == MAX_SERIES


def test_in_prometheus_the_label_of_the_pool_is_that_of_the_jobs() -> None:
    measurements = Measurements()
    observe_pools(measurements, Fleet(), counts_of("eu"))
    text, _ = metrics(measurements).text(None)
    assert b'niyama_pool_workers{niyama_pool="eu",niyama_worker_state="gone"} 0.0' in text
