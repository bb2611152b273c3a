"""What a gateway measures, and what it is asked for when its metrics are collected."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from statistics import fmean
from typing import TypeVar

from gateway.fleet.fleet import Fleet, WorkerState, WorkerStatus
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.counts import LedgerCounts, PoolCounts
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.writer import Written
from niyama.telemetry.instruments import gateway as instruments
from niyama.telemetry.instruments import shared
from niyama.telemetry.measurements import Measurements, Observed

T = TypeVar("T")

MAX_SERIES = 300
"""Of one instrument, by what load reports name."""


class LedgerMetrics:
    """Is told what the ledger reads and writes."""

    def __init__(self, measurements: Measurements, group: str) -> None:
        """`group` is the ledger's consumer group."""
        self._group = group
        self._read = measurements.counter(shared.CONSUMED_MESSAGES)
        self._ended = measurements.counter(instruments.JOBS_ENDED)
        self._duplicates = measurements.counter(instruments.DUPLICATE_ENDINGS)
        self._writing = measurements.histogram(instruments.LEDGER_WRITE_DURATION)

    def stored(self, records: Mapping[str, int], duration_s: float) -> None:
        """A poll with so many records of each topic is in Postgres."""
        self._writing.record(duration_s)
        for topic, count in records.items():
            self._read.add(count, topic, self._group)

    def written(self, written: Written) -> None:
        """What that changed."""
        for status, count in written.endings.items():
            self._ended.add(count, status)
        if written.duplicate_endings:
            self._duplicates.add(written.duplicate_endings)


def observe(
    measurements: Measurements, consumer: LedgerConsumer, dead_letters: DeadLetters
) -> None:
    """Show what these have, and what they have counted."""
    see = measurements.observe
    see(instruments.LEDGER_LAG, lambda: [(lag, (topic,)) for topic, lag in consumer.lags().items()])
    see(instruments.LEDGER_READY, lambda: [(int(consumer.ready), ())])
    see(
        shared.DEAD_LETTERS,
        lambda: [(count, (code,)) for code, count in list(dead_letters.refusals.items())],
    )
    see(
        shared.DROPPED_MESSAGES,
        lambda: [(dead_letters.dropped, (dead_letters.topic,))],
    )


def observe_counts(measurements: Measurements, counts: LedgerCounts) -> None:
    """Show what is open in the ledger, by pool."""

    def of_pools(value: Callable[[PoolCounts], int]) -> Callable[[], Observed]:
        return lambda: [(value(each), (pool,)) for pool, each in counts.by_pool.items()]

    see = measurements.observe
    see(instruments.OPEN_JOBS, of_pools(lambda pool: pool.open_jobs))
    see(instruments.OVERDUE_JOBS, of_pools(lambda pool: pool.overdue_jobs))
    see(instruments.REPLIES_PENDING, of_pools(lambda pool: pool.pending_replies))
    see(instruments.REPLIES_UNDELIVERABLE, of_pools(lambda pool: pool.undeliverable_replies))


def observe_pools(measurements: Measurements, fleet: Fleet, pool: str) -> None:
    """Show what the workers' load reports say; of `pool` even while it has no workers."""
    see = measurements.observe
    see(instruments.POOL_WORKERS, lambda: _workers(fleet.all(), pool))
    see(instruments.POOL_DEMAND, lambda: _demands(fleet.all()))
    see(instruments.POOL_LAG, lambda: _lags(fleet.all()))
    see(
        instruments.LOAD_REPORTS_LAG,
        lambda: [] if fleet.unread is None else [(fleet.unread, ())],
    )
    see(instruments.LOAD_REPORTS_FOLLOWED, lambda: [(int(fleet.following), ())])


def _workers(statuses: Iterable[WorkerStatus], own_pool: str) -> Observed:
    counts = Counter((each.report.pool, each.state) for each in statuses)
    pools = _first({own_pool: None} | dict.fromkeys(pool for pool, _ in counts))
    return [(counts[pool, state], (pool, state)) for pool in pools for state in WorkerState]


def _demands(statuses: Iterable[WorkerStatus]) -> Observed:
    demands: dict[str, list[float]] = {}
    for each in statuses:
        if each.state is not WorkerState.GONE and each.report.scheduler is not None:
            demands.setdefault(each.report.pool, []).append(each.report.scheduler.demand)
    return [(fmean(demands[pool]), (pool,)) for pool in _first(demands)]


def _lags(statuses: Iterable[WorkerStatus]) -> Observed:
    lags: dict[tuple[str, str], float] = {}
    for each in statuses:
        for share in each.report.topics if each.state is not WorkerState.GONE else ():
            place = (each.report.pool, share.topic)
            lags[place] = lags.get(place, 0) + (math.nan if share.lag is None else share.lag)
    return [(lags[place], place) for place in _first(lags)]  # NaN is not shown


def _first(names: Iterable[T]) -> list[T]:
    """Reports may name any number of pools and topics; of too many, some are not measured."""
    return list(islice(names, MAX_SERIES))
