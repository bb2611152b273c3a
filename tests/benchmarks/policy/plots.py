"""The pictures of docs/scheduler.md: misses over the load, and the GPUs of a day."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.policy import day


def plot_overload(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path
) -> None:
    """% missed over the load, in multiples of a reference rate; one panel per data set."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))
    for axis, (dataset, lines) in zip(axes, curves.items(), strict=True):
        for name, points in lines.items():
            color = "black" if name == "bound" else f"C{names.index(name)}"
            style = {"color": color, "linestyle": ":" if name == "bound" else "-", "marker": "."}
            axis.plot([x for x, _ in points], [y for _, y in points], label=name, **style)
        axis.set_title(dataset)
        axis.set_xlabel("load, in multiples of capacity")
        axis.set_ylim(bottom=0, top=104)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("requests that miss anything, %")
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
    figure.legend(handles=list(lines.values()), loc="outside right upper")
    figure.savefig(path, dpi=110)


def plot_day(capacities: day.Capacities, mean_qps: float, hours_apart: float, path: Path) -> None:
    """GPUs in use over the hours, and those that have to be there: three silos, and one fleet."""
    _, three, shared = day.pools(capacities, mean_qps, hours_apart)
    sizes = day.sizes(capacities, mean_qps, hours_apart)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _stack(left, three, ("interactive", "batch, 10 min", "batch, 30 min"), sizes.three_silos)
    _stack(right, shared, ("all requests",), sizes.shared)
    left.set_title("three silos")
    right.set_title("one fleet")
    left.set_ylabel(f"GPUs, for {mean_qps:g} requests/s on average")
    left.set_ylim(bottom=0, top=1.5 * sizes.three_silos)
    figure.savefig(path, dpi=110)


def _stack(axis: Axes, pools: Sequence[day.Needs], names: Sequence[str], gpus: int) -> None:
    hours = [step / 4 for step in range(97)]
    axis.stackplot(hours, [[need(hour) for hour in hours] for need in pools], labels=names)
    axis.axhline(gpus, color="black", linestyle="--", label=f"{gpus} GPUs")
    axis.set_xlabel("hour of the day")
    axis.set_xticks(range(0, 25, 4))
    axis.legend(loc="upper left")
