"""The picture of docs/scheduler.md: misses over the load."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


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
