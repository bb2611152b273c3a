"""What a gateway measures of its ledger."""

from uuid import uuid4

from aiokafka import TopicPartition

from gateway.database import engine
from gateway.ledger.backlog import Backlog
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.positions import Positions
from gateway.ledger.records import Unusable
from gateway.ledger.writer import Written
from gateway.measuring import LedgerMetrics, observe
from gateway.settings import GatewaySettings
from niyama.telemetry import instruments
from niyama.telemetry.measurements import Measurements
from schemas import JobError
from tests.support.metrics import numbers
from tests.support.records import FakeRecord


class Log:
    """A consumer that has fetched up to offset 10 of some partitions."""

    def __init__(self, *fetched: TopicPartition) -> None:
        self._fetched = fetched

    def highwater(self, part: TopicPartition) -> int | None:
        return 10 if part in self._fetched else None


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


def test_the_ledgers_lag_is_that_of_all_its_partitions_of_a_topic() -> None:
    parts = [TopicPartition("events", 0), TopicPartition("events", 1)]
    unfetched = TopicPartition("batch", 0)
    positions = Positions(Log(*parts))
    positions.known = {parts[0]: 4, parts[1]: 10, unfetched: 7}
    assert positions.lags() == {"events": 6, "batch": 0}


async def test_dead_letters_are_counted_by_code_and_what_is_not_known_is_not_shown() -> None:
    measurements, settings = Measurements(), GatewaySettings()
    letters, backlog = DeadLetters(settings), Backlog(engine(settings, 1))
    observe(measurements, LedgerConsumer(settings), letters, backlog)
    error = JobError(code="invalid_json", message="no JSON")
    letters.put(Unusable(FakeRecord(), error))
    assert numbers(measurements, "niyama.dead_letters") == {("invalid_json",): 1}
    assert numbers(measurements, "niyama.ledger.open_jobs") == {}
    backlog.counts = {instruments.OPEN_JOBS: 5}
    assert numbers(measurements, "niyama.ledger.open_jobs") == {(): 5}
