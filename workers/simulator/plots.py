"""Pictures: a sweep over rates, and one second of iterations."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from workers.simulator.replica import Iteration
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
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[2].set_ylim(top=max(1.0, axes[2].get_ylim()[1]))
    axes[0].legend()
    figure.savefig(path, dpi=120)


def plot_iterations(iterations: Sequence[Iteration], title: str, path: Path) -> None:
    """Chunk sizes, decodes and parked prompts of consecutive iterations, to scale in time."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    chunks, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    starts_ms = [1000 * (i.start_s - iterations[0].start_s) for i in iterations]
    widths_ms = [1000 * i.duration_s for i in iterations]
    batch = [sum(i.chunk_tokens) - i.interactive_chunk_tokens for i in iterations]
    interactive = [i.interactive_chunk_tokens for i in iterations]
    style = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
    chunks.bar(starts_ms, interactive, widths_ms, label="interactive prompts", **style)
    chunks.bar(starts_ms, batch, widths_ms, bottom=interactive, label="batch prompts", **style)
    chunks.set_ylabel("prefill tokens in the iteration")
    chunks.set_title(title)
    chunks.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    counts.step(starts_ms, [i.decodes for i in iterations], where="post", label="decodes")
    counts.step(starts_ms, [i.parked for i in iterations], where="post", label="parked prompts")
    counts.set_xlabel("ms; the width of a bar is one iteration")
    counts.set_ylim(bottom=0)
    counts.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)


def _worst_tier(result: Summary) -> float:
    return 100 * result.worst_tier("envelope")


def _goodput(result: Summary) -> float:
    return result.goodput_qps


def _late_gaps(result: Summary) -> float:
    return 100 * result.late_gaps
