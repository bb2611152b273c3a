"""What a gateway measures, and what it is asked for when its metrics are collected."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from statistics import fmean

from gateway.fleet.fleet import Fleet, WorkerState, WorkerStatus
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.counts import LedgerCounts, PoolCounts
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.writer import Written
from niyama.telemetry.instruments import gateway as instruments
from niyama.telemetry.instruments import shared
from niyama.telemetry.measurements import Measurements, Observed

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
        def observed() -> Observed:
            by_pool = counts.by_pool
            return [(value(by_pool[pool]), (pool,)) for pool in _shown(by_pool, counts.pools)]

        return observed

    see = measurements.observe
    see(instruments.OPEN_JOBS, of_pools(lambda pool: pool.open_jobs))
    see(instruments.OVERDUE_JOBS, of_pools(lambda pool: pool.overdue_jobs))
    see(instruments.REPLIES_PENDING, of_pools(lambda pool: pool.pending_replies))
    see(instruments.REPLIES_UNDELIVERABLE, of_pools(lambda pool: pool.undeliverable_replies))


def observe_pools(measurements: Measurements, fleet: Fleet, counts: LedgerCounts) -> None:
    """Show what the workers' load reports say; of the gateway's own pool even while it has no
    workers."""
    see = measurements.observe
    see(instruments.POOL_WORKERS, lambda: _workers(fleet.all(), counts.pools))
    see(instruments.POOL_DEMAND, lambda: _demands(fleet.all(), counts.pools))
    see(instruments.POOL_LAG, lambda: _lags(fleet.all(), counts.pools))
    see(
        instruments.LOAD_REPORTS_LAG,
        lambda: [] if fleet.unread is None else [(fleet.unread, ())],
    )
    see(instruments.LOAD_REPORTS_FOLLOWED, lambda: [(int(fleet.following), ())])


def _workers(statuses: Iterable[WorkerStatus], known: Sequence[str]) -> Observed:
    counts = Counter((each.report.pool, each.state) for each in statuses)
    own = known[:1]
    pools = _shown([*own, *(pool for pool, _ in counts)], known)
    return [(counts[pool, state], (pool, state)) for pool in pools for state in WorkerState]


def _demands(statuses: Iterable[WorkerStatus], known: Sequence[str]) -> Observed:
    demands: dict[str, list[float]] = {}
    for each in statuses:
        if each.state is not WorkerState.GONE and each.report.scheduler is not None:
            demands.setdefault(each.report.pool, []).append(each.report.scheduler.demand)
    return [(fmean(demands[pool]), (pool,)) for pool in _shown(demands, known)]


def _lags(statuses: Iterable[WorkerStatus], known: Sequence[str]) -> Observed:
    lags: dict[str, dict[str, float]] = {}
    for each in statuses:
        for share in each.report.topics if each.state is not WorkerState.GONE else ():
            of_pool = lags.setdefault(each.report.pool, {})
            lag = math.nan if share.lag is None else share.lag  # NaN is not shown
            of_pool[share.topic] = of_pool.get(share.topic, 0) + lag
    shown = ((lags[pool], pool) for pool in _shown(lags, known))
    places = [(of_pool[topic], (pool, topic)) for of_pool, pool in shown for topic in of_pool]
    return places[:MAX_SERIES]


def _shown(pools: Iterable[str], known: Sequence[str]) -> list[str]:
    """The first MAX_SERIES of these pools, those that are known to have jobs before others.

    Reports and events may name any number of them.
    """
    found = dict.fromkeys(pools)
    first = (pool for pool in known if pool in found)
    return list(islice(dict.fromkeys([*first, *found]), MAX_SERIES))
