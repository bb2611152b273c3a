"""Results as tables for a terminal."""

import math
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.table import Table

from workers.simulator.capacity import Capacity
from workers.simulator.experiment import Experiment
from workers.simulator.intervals import interval
from workers.simulator.summary import Summary


def sweep_table(results: Sequence[Summary], experiment: Experiment) -> Table:
    """One row per policy and rate; shares in percent, times in seconds."""
    names = "/".join(tier.name for tier in experiment.tiers)
    columns = ["req/s", "good\nput", f"% missed\n{names}", f"p99 s\n{names}"]
    columns.append("% gaps\nlate")
    if experiment.low_importance:
        columns.append("% missed\nhigh/low")
    table = _by_policy(
        title_of(experiment), "p99 of the TTFT or TTLT; ∞: not within the run", columns
    )
    for result in results:
        table.add_row(*_sweep_row(result, with_importance=experiment.low_importance > 0))
    return table


def _by_policy(title: str, caption: str, columns: Sequence[str]) -> Table:
    """An empty table with the policy, then these columns of numbers."""
    table = Table(
        title=title, caption=caption, box=box.SIMPLE, collapse_padding=True, pad_edge=False
    )
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def title_of(experiment: Experiment) -> str:
    device = experiment.profile.name
    if experiment.law is not None:
        device = f"{experiment.law.name} planned as {device}"
    return f"{experiment.trace.name}, {device}"


def _sweep_row(result: Summary, *, with_importance: bool) -> list[str]:
    cells = [
        result.policy,
        f"{result.qps:g}",
        f"{result.goodput_qps:.2f}",
        "/".join(_percent(tier.missed_envelope) for tier in result.tiers),
        "/".join(_seconds(tier.latency_s[-1]) for tier in result.tiers),
        _percent(result.late_gaps),
    ]
    if with_importance:
        cells.append(f"{_percent(result.missed_important)}/{_percent(result.missed_unimportant)}")
    return cells


def misses_table(results: Sequence[Summary]) -> Table:
    """Who misses: by class, and by tenths of the prompt lengths, the shortest first."""
    table = _by_policy(
        "who misses, %",
        "i/b: interactive/batch; tenths by prompt length, the shortest first",
        ("req/s", "all", "i/b", "relegated\ni/b", "by\ntenths", "longest\ntenth"),
    )
    for result in results:
        classes = (result.interactive, result.batch)
        table.add_row(
            result.policy,
            f"{result.qps:g}",
            _percent(result.missed),
            "/".join(_percent(each.missed) for each in classes),
            "/".join(_percent(each.relegated) for each in classes),
            "".join(map(_bar, result.missed_by_size)),
            _percent(result.missed_by_size[-1]),
        )
    return table


def _bar(share: float) -> str:
    """A share as a bar of one character; a dot below half a percent."""
    return "·" if share < 0.005 else "▁▂▃▄▅▆▇█"[min(7, int(8 * share))]


def value_table(results: Sequence[Summary]) -> Table:
    """What was kept of what it all was worth, and how evenly over the tenants."""
    table = _by_policy(
        "value and fairness, %",
        "Jain's index of the tenants' parts of their fair shares: 100 is even",
        ("req/s", "value\nkept", "Jain's\nindex"),
    )
    table.add_column("missed, by tenant")
    for result in results:
        tenants = result.missed_by_tenant.items()
        table.add_row(
            result.policy,
            f"{result.qps:g}",
            f"{100 * result.value_kept:.1f}",
            f"{100 * result.fairness:.1f}",
            " ".join(f"{tenant} {_percent(share)}" for tenant, share in tenants if tenant),
        )
    return table


def intervals_table(results: Sequence[Summary], title: str) -> Table:
    """Means over the seeds of each policy and rate; of misses also less the first policy's.

    The requests of a seed are the same for all policies, so the differences are of pairs.
    """
    columns = ("req/s", "good\nput", "missed", "inter-\nactive", "batch", "gaps\nlate")
    table = _by_policy(
        title,
        "mean ± half the 95% confidence interval; misses in %",
        (*columns, "less\nfirst's"),
    )
    first = {(r.qps, r.seed): r.missed for r in results if r.policy == results[0].policy}
    groups = groupby(results, key=lambda result: (result.policy, result.qps))
    for (policy, qps), group in groups:
        runs = list(group)
        shares: Sequence[Sequence[float]] = (
            [run.missed for run in runs],
            [run.interactive.missed for run in runs],
            [run.batch.missed for run in runs],
            [run.late_gaps for run in runs],
            [run.missed - first[run.qps, run.seed] for run in runs],
        )
        mean, half_width = interval([run.goodput_qps for run in runs])
        goodput = f"{mean:.2f}\n±{half_width:.2f}"
        cells = map(_percent_interval, shares)
        table.add_row(policy, f"{qps:g}", goodput, *cells)
    return table


def _percent_interval(shares: Sequence[float]) -> str:
    mean, half_width = interval([100 * share for share in shares])
    return f"{mean:.1f}\n±{half_width:.1f}"


def capacity_table(
    capacities: Sequence[Capacity],
    scoring: str,
    qps: float | None,
    answers: Sequence[tuple[str, int | None]] | None,
) -> Table:
    """Requests per second of one replica, and the replicas that `qps` needs."""
    table = Table(caption=f"at most 1% missed in the worst tier, by {scoring}", box=box.SIMPLE)
    table.add_column("policy")
    table.add_column("req/s per GPU", justify="right")
    if answers is not None:
        table.add_column(f"GPUs for {qps:g} req/s", justify="right")
    for index, capacity in enumerate(capacities):
        row = [capacity.policy, f"{capacity.qps_per_gpu:.2f}"]
        if answers is not None:
            count = answers[index][1]
            row.append("none is enough" if count is None else str(count))
        table.add_row(*row)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def _seconds(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
