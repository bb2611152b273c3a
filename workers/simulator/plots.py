"""Pictures: a sweep over rates, and one second of iterations."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from workers.simulator.summary import Summary


def plot_sweep(results: Sequence[Summary], path: Path) -> None:
    """Misses, goodput and late gaps over the rate, one line per policy."""
    by_policy: dict[str, list[Summary]] = defaultdict(list)
    for result in results:
        by_policy[result.policy].append(result)
    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = (
        ("missed in the worst tier, %", _worst_tier),
        ("goodput, requests/s", _goodput),
        ("gaps over the TBT, %", _late_gaps),
    )
    for axis, (title, value) in zip(axes, panels, strict=True):
        for policy, runs in by_policy.items():
            axis.plot([r.qps for r in runs], [value(r) for r in runs], marker="o", label=policy)
        axis.set_title(title)
        axis.set_xlabel("requests/s")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def _worst_tier(result: Summary) -> float:
    return 100 * result.worst_tier("envelope")


def _goodput(result: Summary) -> float:
    return result.goodput_qps


def _late_gaps(result: Summary) -> float:
    return 100 * result.late_gaps
