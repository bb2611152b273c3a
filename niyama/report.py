"""How jobs fared, by class, as a table: from what the status API says of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from schemas import JobStatus, Kind


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """One job, as far as it has come. Times in seconds from its arrival."""

    label: str
    status: JobStatus
    met: bool
    """It completed, and every target that it asked for was met."""
    relegated: bool
    ttft_s: float | None
    ttlt_s: float | None

    @property
    def ended(self) -> bool:
        return not self.status.is_open


def outcome_of(job: dict[str, Any]) -> JobOutcome:
    """Read one job of the status API's list."""
    status, measured = JobStatus(job["status"]), job["measured"]
    targets = [met for met in job["deadlines_met"].values() if met is not None]
    ttft_ms = measured["ttft_ms"]
    return JobOutcome(
        label=_label(job["qos"]),
        status=status,
        met=status is JobStatus.COMPLETED and bool(targets) and all(targets),
        relegated=job["relegations"] > 0,
        ttft_s=None if ttft_ms is None else ttft_ms / 1000,
        ttlt_s=measured["ttlt_s"],
    )


def _label(qos: dict[str, Any]) -> str:
    if qos["name"]:
        return str(qos["name"])
    ttft_s = None if qos["ttft_ms"] is None else qos["ttft_ms"] / 1000
    ttlt_s = qos["ttlt_s"] if qos.get("ttlt_ms") is None else qos["ttlt_ms"] / 1000
    targets = ((ttft_s, "s"), (qos["tbt_ms"], "ms"), (ttlt_s, "s"))
    kind = "chat" if qos["kind"] == Kind.INTERACTIVE else qos["kind"]
    said = "/".join(f"{value:g}{unit}" for value, unit in targets if value is not None)
    return f"{kind} {said}".strip()


def table_of(outcomes: Sequence[JobOutcome]) -> Table:
    """One row per class of job. Times are of the jobs that completed."""
    table = Table(
        title="How the jobs fared (times in seconds, p50/p99)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("class", vertical="bottom", no_wrap=True)
    for column in (
        *("jobs", "completed", "deadlines\nmet", "relegated"),
        *("TTFT", "last token"),
    ):
        table.add_column(column, justify="right", vertical="bottom")
    for label in sorted({outcome.label for outcome in outcomes}):
        table.add_row(label, *_cells([each for each in outcomes if each.label == label]))
    return table


def _cells(outcomes: Sequence[JobOutcome]) -> list[str]:
    completed = [outcome for outcome in outcomes if outcome.status is JobStatus.COMPLETED]
    return [
        str(len(outcomes)),
        str(len(completed)),
        str(sum(outcome.met for outcome in outcomes)),
        str(sum(outcome.relegated for outcome in outcomes)),
        _p50_p99([each.ttft_s for each in completed if each.ttft_s is not None]),
        _p50_p99([each.ttlt_s for each in completed if each.ttlt_s is not None]),
    ]


def _p50_p99(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return "/".join(f"{value:.{2 if value < 10 else 1}f}" for value in _percentiles(seconds))


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 50), percentile(values, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that really occurred."""
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]
