"""What the API shows of pools, in worked arithmetic."""

from gateway.api import fleet_views
from gateway.api.fleet_views import PoolView
from gateway.fleet.fleet import WorkerStatus
from schemas import LoadReport
from schemas.load import Backlog, PredictedTtft, SchedulerLoad, TopicShare, WorkerLimits
from tests.support.loads import load_report


def busy(name: str, work_s: float, demand: float, **fields: object) -> LoadReport:
    scheduler = SchedulerLoad(
        waiting=1, prefilling=1, overdue=0, demand=demand, capacity_tokens_per_s=1_000,
        backlog=[
            Backlog(kind="batch", due_within_s=60, work_s=work_s / 2),
            Backlog(kind="batch", work_s=work_s),
        ],
        ttft=[PredictedTtft(prompt_tokens=128, ttft_s=demand)],
    )  # fmt: skip
    share = TopicShare(topic="t", partitions=[0], jobs=3, prompt_tokens=9, lag=5)
    known: dict[str, object] = {
        "scheduler": scheduler,
        "topics": [share],
        "running_decodes": 2,
        "prompt_tokens_per_s": 100,
        "generated_tokens_per_s": 10,
        "used_kv_tokens": 2_500,
        "limits": WorkerLimits(interactive_jobs=1, batch_jobs=1, kv_tokens=10_000),
    }
    return load_report(name, **(known | fields))


def pools(known: list[WorkerStatus]) -> list[PoolView]:
    return [fleet_views.pool(members) for members in fleet_views.by_pool(known)]


def test_a_pool_adds_up_what_its_workers_have_and_shows_the_busiest() -> None:
    (pool,) = pools(
        [
            WorkerStatus(busy("w1", work_s=10, demand=0.5), 0.5),
            WorkerStatus(busy("w2", work_s=30, demand=0.9, used_kv_tokens=7_500), 0.5),
            WorkerStatus(busy("w3", work_s=99, demand=9), 60.0),  # gone
        ]
    )
    assert (pool.pool, pool.models) == ("default", ["tiny"])
    assert (pool.serving, pool.draining, pool.gone) == (2, 0, 1)
    assert (pool.jobs, pool.lag, pool.running_decodes) == (6, 10, 4)
    assert (pool.prompt_tokens_per_s, pool.capacity_tokens_per_s) == (200.0, 2_000.0)
    assert (pool.used_kv_share, pool.demand, pool.largest_demand) == (0.5, 0.7, 0.9)
    assert [(each.kind, each.work_s) for each in pool.backlog] == [("batch", 20.0)]
    assert [(each.least_s, each.most_s) for each in pool.ttft] == [(0.5, 0.9)]


def test_a_chat_does_not_go_to_a_worker_that_drains() -> None:
    (pool,) = pools([WorkerStatus(busy("w1", 10, 0.5, draining=True), 0.5)])
    assert (pool.serving, pool.draining, pool.ttft) == (0, 1, [])


def test_of_workers_without_a_scheduler_little_is_known() -> None:
    (pool,) = pools([WorkerStatus(load_report(), 0.5)])
    assert (pool.capacity_tokens_per_s, pool.demand, pool.backlog) == (None, None, [])
    assert (pool.used_kv_share, pool.lag, pool.jobs) == (None, None, 0)


def test_pools_are_apart() -> None:
    found = pools([WorkerStatus(load_report(pool=name), 0.5) for name in ("a", "b")])
    assert [(each.pool, each.serving) for each in found] == [("a", 1), ("b", 1)]


def test_a_worker_that_claims_more_kv_than_it_has_fills_it_at_most() -> None:
    (pool,) = pools([WorkerStatus(busy("w1", 10, 0.5, used_kv_tokens=2**52), 0.5)])
    assert pool.used_kv_share == 1.0


def test_a_pool_where_a_chat_would_be_relegated_by_some_has_no_longest_ttft() -> None:
    def relegating(name: str) -> WorkerStatus:
        report = busy(name, work_s=1, demand=3)
        assert report.scheduler is not None
        ttft = [PredictedTtft(prompt_tokens=128)]
        scheduler = report.scheduler.model_copy(update={"ttft": ttft})
        return WorkerStatus(report.model_copy(update={"scheduler": scheduler}), 0.5)

    meeting = WorkerStatus(busy("w2", work_s=1, demand=0.5), 0.5)
    (some,), (none,) = pools([relegating("w1"), meeting]), pools([relegating("w1")])
    assert [(each.least_s, each.most_s) for each in some.ttft] == [(0.5, None)]
    assert [(each.least_s, each.most_s) for each in none.ttft] == [(None, None)]
