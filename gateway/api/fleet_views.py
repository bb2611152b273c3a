"""What the API shows of workers and pools."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from gateway.api.view import Measured, View
from gateway.fleet.fleet import WorkerState, WorkerStatus
from schemas import LoadReport


class WorkerView(View):
    """A worker, as of its last report."""

    state: WorkerState
    """`gone`: it has not reported for five seconds."""
    silent_s: float
    """Since its last report."""
    report: LoadReport


class WorkerList(View):
    """Workers by pool and name."""

    workers: list[WorkerView]
    total: int
    """How many there are, also beyond the limit."""
    following: bool
    """Whether this gateway reads load reports; while it does not, workers seem to be gone."""


class PoolBacklog(View):
    """Work of one kind in a pool."""

    kind: str
    """Of quality of service: interactive, deadline, task or batch."""
    work_s: float
    """The time that it takes all serving workers together: what they have taken, however late it
    is due."""


class PoolTtft(View):
    """When a chat that arrived now would have its first token; it may go to any worker."""

    prompt_tokens: int
    least_s: Measured | None
    """At the worker that would be fastest; None: every one would relegate it."""
    most_s: Measured | None
    """At the slowest; None: some worker would relegate it."""


class PoolView(View):
    """The workers of one pool together; those that are gone count in `gone` only."""

    pool: str
    models: list[str]
    serving: int
    draining: int
    gone: int
    jobs: int
    """Taken and not finished."""
    lag: int | None
    """Records in its job topics that no worker has read: they wait in Kafka. None until the workers
    have looked."""
    running_decodes: int
    prompt_tokens_per_s: float
    generated_tokens_per_s: float
    capacity_tokens_per_s: float | None
    """What its workers get done when busy, in prompt tokens."""
    used_kv_share: float | None
    """Of the workers' KV memory, 0 to 1."""
    demand: float | None
    """The mean of its workers' demand: above 1 they cannot meet every deadline. Times the workers
    it is how many there should be."""
    largest_demand: float | None
    """Of the worker with the most; far above the mean where a few partitions have most jobs."""
    backlog: list[PoolBacklog]
    ttft: list[PoolTtft]


class PoolList(View):
    """Pools by name."""

    pools: list[PoolView]
    total: int
    """How many there are, also beyond the limit."""


def worker(status: WorkerStatus) -> WorkerView:
    return WorkerView(state=status.state, silent_s=round(status.silent_s, 1), report=status.report)


def by_pool(workers: Sequence[WorkerStatus]) -> list[list[WorkerStatus]]:
    """The workers of each pool; `workers` are in order of their pools."""
    return [list(members) for _, members in groupby(workers, key=lambda each: each.report.pool)]


def pool(members: Sequence[WorkerStatus]) -> PoolView:
    """Of one pool, at least one worker."""
    states = [each.state for each in members]
    reports = [each.report for each in members if each.state is not WorkerState.GONE]
    schedulers = [each.scheduler for each in reports if each.scheduler is not None]
    shares = [share for each in reports for share in each.topics]
    return PoolView(
        pool=members[0].report.pool,
        models=sorted({each.model for each in reports}),
        serving=states.count(WorkerState.SERVING),
        draining=states.count(WorkerState.DRAINING),
        gone=states.count(WorkerState.GONE),
        jobs=sum(share.jobs for share in shares),
        lag=_sum_of_all(share.lag for share in shares),
        running_decodes=sum(each.running_decodes for each in reports),
        prompt_tokens_per_s=_rate(each.prompt_tokens_per_s for each in reports),
        generated_tokens_per_s=_rate(each.generated_tokens_per_s for each in reports),
        capacity_tokens_per_s=(
            _rate(each.capacity_tokens_per_s for each in schedulers) if schedulers else None
        ),
        used_kv_share=_used_kv_share(reports),
        demand=_mean([each.demand for each in schedulers]),
        largest_demand=max((each.demand for each in schedulers), default=None),
        backlog=_backlog(reports),
        ttft=_ttft(reports),
    )


def _sum_of_all(counts: Iterable[int | None]) -> int | None:
    """None where there are none, or one is not known."""
    listed = list(counts)
    return None if not listed or None in listed else sum(each or 0 for each in listed)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _rate(per_s: Iterable[float | None]) -> float:
    return round(sum(each or 0.0 for each in per_s), 1)


def _used_kv_share(reports: Sequence[LoadReport]) -> float | None:
    known = [
        (each.used_kv_tokens, each.limits.kv_tokens)
        for each in reports
        if each.used_kv_tokens is not None and each.limits.kv_tokens
    ]
    total = sum(tokens or 0 for _, tokens in known)
    return round(min(1.0, sum(used for used, _ in known) / total), 4) if total else None


def _backlog(reports: Sequence[LoadReport]) -> list[PoolBacklog]:
    """Workers of a pool are alike, and work side by side: the mean of their backlogs."""
    work_s: dict[str, float] = {}
    schedulers = [each.scheduler for each in reports if each.scheduler is not None]
    for scheduler in schedulers:
        for backlog in scheduler.backlog:
            if backlog.due_within_s is None:
                work_s[backlog.kind] = work_s.get(backlog.kind, 0.0) + backlog.work_s
    return [
        PoolBacklog(kind=kind, work_s=round(work_s[kind] / len(schedulers), 3))
        for kind in sorted(work_s)
    ]


def _ttft(reports: Sequence[LoadReport]) -> list[PoolTtft]:
    """Of those that take jobs."""
    by_size: dict[int, list[float | None]] = {}
    for report in reports:
        if report.scheduler is not None and not report.draining:
            for predicted in report.scheduler.ttft:
                by_size.setdefault(predicted.prompt_tokens, []).append(predicted.ttft_s)
    return [
        PoolTtft(
            prompt_tokens=size,
            least_s=min(known_s, default=None),
            most_s=max(known_s) if len(known_s) == len(times_s) else None,
        )
        for size, times_s in sorted(by_size.items())
        for known_s in [[time_s for time_s in times_s if time_s is not None]]
    ]
