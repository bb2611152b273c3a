"""The demo's table says what the status API says."""

import io
from typing import Any

import pytest
from rich.console import Console

from niyama.report import JobOutcome, outcome_of, percentile, table_of
from schemas import JobStatus


def chat(**changes: Any) -> dict[str, Any]:
    job: dict[str, Any] = {
        "status": "completed",
        "qos": {
            "name": "chat",
            "kind": "interactive",
            "ttft_ms": 1000.0,
            "tbt_ms": 100.0,
            "ttlt_s": None,
        },
        "deadlines_met": {"ttft": True, "tbt": True, "ttlt": None},
        "measured": {"ttft_ms": 250.0, "ttlt_s": 1.5},
        "relegations": 0,
    }
    return job | changes


def test_a_job_met_its_deadlines_when_it_completed_within_all_that_it_asked_for() -> None:
    assert outcome_of(chat()).met
    assert not outcome_of(chat(deadlines_met={"ttft": True, "tbt": False, "ttlt": None})).met
    assert not outcome_of(chat(status="failed")).met


def test_a_job_has_ended_unless_it_is_open() -> None:
    ended = {s: outcome_of(chat(status=s)).ended for s in ("queued", "running", "failed")}
    assert ended == {"queued": False, "running": False, "failed": True}


def test_explicit_targets_are_their_own_label() -> None:
    batch = {"name": None, "kind": "batch", "ttft_ms": None, "tbt_ms": None, "ttlt_s": 60.0}
    quick = {"name": None, "kind": "interactive", "ttft_ms": 500.0, "tbt_ms": 50.0, "ttlt_s": None}
    tool = batch | {"kind": "deadline", "ttlt_s": None, "ttlt_ms": 8000.0}
    assert outcome_of(chat(qos=batch)).label == "batch 60s"
    assert outcome_of(chat(qos=tool)).label == "deadline 8s"
    assert outcome_of(chat(qos=tool | {"kind": "task", "ttlt_ms": None})).label == "task"
    assert outcome_of(chat(qos=quick)).label == "chat 0.5s/50ms"


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 2.0), (75, 3.0), (99, 4.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([4.0, 2.0, 1.0, 3.0], percent) == value


def test_the_table_has_a_row_for_each_class_and_a_dash_for_what_is_not_known() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    lost = JobOutcome("q1", JobStatus.QUEUED, met=False, relegated=True, ttft_s=None, ttlt_s=None)
    console.print(table_of([outcome_of(chat()), lost]))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["chat", "1", "1", "1", "0", "0.25/0.25", "1.50/1.50"] in rows
    assert ["q1", "1", "0", "0", "1", "-", "-"] in rows


def test_the_table_fits_a_terminal_of_eighty_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    slow = {"ttft_ms": 12_340.0, "ttlt_s": 56.78}
    targets = {
        "name": None,
        "kind": "interactive",
        "ttft_ms": 1500.0,
        "tbt_ms": 250.0,
        "ttlt_s": None,
    }
    console.print(table_of([outcome_of(chat(qos=targets, measured=slow))]))
    text = console.export_text()
    for whole in ("chat 1.5s/250ms", "relegated", "last token", "12.3/12.3", "56.8/56.8"):
        assert whole in text
