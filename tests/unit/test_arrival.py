"""When a job arrived, for the worker that serves it and for the ledger that lists it."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ledger.records import RecordDecoder, Submission
from schemas import PoolTopics, QosCatalog
from schemas.arrival import LATEST_MS, MISSING_MS, arrival_ms
from tests.support.records import FakeRecord, job_bytes
from workers.intake.admission import Admission
from workers.job import Job

NOW_MS = 1_795_000_000_123
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXTREMES = [
    *(-(2**63), -1, 0, 1, NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + 86_400_000),
    *(LATEST_MS - 1, LATEST_MS, LATEST_MS + 1, 2**53, 2**62, 2**63 - 1),
]


@pytest.mark.parametrize("timestamp", EXTREMES)
@pytest.mark.parametrize("qos", ["chat", {"ttlt_s": 604_800}])
def test_the_ledger_has_every_job_that_a_worker_runs(timestamp: int, qos: object) -> None:
    record = FakeRecord(job_bytes(qos=qos), timestamp=timestamp)
    catalog = QosCatalog.shipped()

    job = Admission("m", catalog).admit(record, NOW_MS / 1000)
    entry = RecordDecoder(PoolTopics.of("default"), catalog, "default").decode(record)

    assert isinstance(job, Job)
    assert isinstance(entry, Submission)
    assert entry.job_id == job.job_id
    assert entry.request.arrived_at is not None
    assert entry.request.deadline_at is not None
    if 0 <= timestamp <= NOW_MS:
        assert entry.request.arrived_at == EPOCH + timedelta(seconds=job.qos.arrival_s)
    else:
        assert job.qos.arrival_s == NOW_MS / 1000


def test_a_missing_or_future_timestamp_counts_as_now_for_who_serves_the_job() -> None:
    assert [arrival_ms(stamp, read_at_ms=50) for stamp in (-1, 0, 49, 51, 2**62)] == [
        *(50, 0, 49, 50, 50)
    ]


def test_the_ledger_keeps_what_can_be_stored_whenever_it_reads() -> None:
    assert [arrival_ms(stamp) for stamp in (-1, 0, 49, 2**62)] == [MISSING_MS, 0, 49, LATEST_MS]
