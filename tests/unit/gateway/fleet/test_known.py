"""Which workers there are, on virtual time."""

import pytest

from gateway.fleet import known
from gateway.fleet.known import KnownWorkers, WorkerState
from tests.support.loads import load_report


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(clock: Clock) -> KnownWorkers:
    return KnownWorkers(clock)


def states(workers: KnownWorkers) -> dict[str, WorkerState]:
    return {each.report.worker_id: each.state for each in workers.all()}


def test_a_worker_that_stopped_reporting_is_gone_and_then_forgotten(
    workers: KnownWorkers, clock: Clock
) -> None:
    workers.reported(b"1", load_report("w1"))
    clock.now_s += 4
    workers.reported(b"2", load_report("w2"))
    assert states(workers) == {"w1": WorkerState.SERVING, "w2": WorkerState.SERVING}
    clock.now_s += 4
    assert states(workers) == {"w1": WorkerState.GONE, "w2": WorkerState.SERVING}
    clock.now_s += 293
    assert states(workers) == {"w2": WorkerState.GONE}
    workers.reported(b"2", load_report("w2"))
    assert states(workers) == {"w2": WorkerState.SERVING}


def test_one_that_drains_says_so_and_one_that_ended_in_order_is_not_there(
    workers: KnownWorkers,
) -> None:
    workers.reported(b"1", load_report("w1", draining=True))
    workers.reported(b"2", load_report("w2"))
    assert states(workers) == {"w1": WorkerState.DRAINING, "w2": WorkerState.SERVING}
    workers.withdrawn(b"1")
    workers.withdrawn(b"unknown")
    assert states(workers) == {"w2": WorkerState.SERVING}


def test_a_report_that_is_old_when_it_is_read_is_of_nobody(workers: KnownWorkers) -> None:
    workers.reported(b"1", load_report("w1"), age_s=2)
    workers.reported(b"2", load_report("w2"), age_s=600)
    assert states(workers) == {"w1": WorkerState.SERVING}


def test_workers_are_listed_by_pool_and_name(workers: KnownWorkers) -> None:
    for pool, name in (("b", "1"), ("a", "2"), ("a", "1")):
        workers.reported(f"{pool}{name}".encode(), load_report(name, pool=pool))
    listed = [(each.report.pool, each.report.worker_id) for each in workers.all()]
    assert listed == [("a", "1"), ("a", "2"), ("b", "1")]


def test_however_many_names_there_are_memory_is_bounded(
    workers: KnownWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MAX_WORKERS", 3)
    for number in range(5):
        workers.reported(b"%d" % number, load_report(f"w{number}"))
    assert list(states(workers)) == ["w2", "w3", "w4"]
