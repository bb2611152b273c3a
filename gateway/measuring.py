"""What a gateway measures, and what it is asked for when its metrics are collected."""

from collections.abc import Callable, Mapping

from gateway.ledger.backlog import Backlog
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.writer import Written
from niyama.telemetry import instruments
from niyama.telemetry.instrument import Instrument
from niyama.telemetry.measurements import Measurements, Observed


class LedgerMetrics:
    """Is told what the ledger reads and writes."""

    def __init__(self, measurements: Measurements, group: str) -> None:
        """`group` is the ledger's consumer group."""
        self._group = group
        self._read = measurements.counter(instruments.CONSUMED_MESSAGES)
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
    measurements: Measurements,
    consumer: LedgerConsumer,
    dead_letters: DeadLetters,
    backlog: Backlog,
) -> None:
    """Show what these have, and what they have counted."""
    see = measurements.observe
    see(instruments.LEDGER_LAG, lambda: [(lag, (topic,)) for topic, lag in consumer.lags().items()])
    see(
        instruments.DEAD_LETTERS,
        lambda: [(count, (code,)) for code, count in list(dead_letters.refusals.items())],
    )
    see(
        instruments.DROPPED_MESSAGES,
        lambda: [(dead_letters.dropped, (dead_letters.topic,))],
    )
    for instrument in (
        instruments.OPEN_JOBS,
        instruments.OVERDUE_JOBS,
        instruments.REPLIES_PENDING,
        instruments.REPLIES_UNDELIVERABLE,
    ):
        see(instrument, _count_of(instrument, backlog))


def _count_of(instrument: Instrument, backlog: Backlog) -> Callable[[], Observed]:
    def count() -> Observed:
        counts = backlog.counts
        return [(counts[instrument], ())] if instrument in counts else []

    return count
