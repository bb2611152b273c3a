"""A job on a terminal."""

from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from niyama import status
from niyama.errors import ConfigurationError
from niyama.job_report import report

JOB = UUID("01a1fd07-8d69-7538-b1cd-a6c7a0c91219")
LATE = "Its first token came 2.0 s late: its prompt waited 2.1 s in the engine."


def event(second: float, kind: str, reason: str | None = None, attempt: int = 1) -> dict[str, Any]:
    at = f"2026-11-21T09:00:{second:09.6f}Z"
    return {"at": at, "type": kind, "reason": reason, "attempt": attempt, "worker_id": "w-1"}


def job(**changes: Any) -> dict[str, Any]:
    return {
        "job_id": str(JOB),
        "status": "completed",
        "relegated": False,
        "model": "niyama-tiny",
        "qos": {"name": "chat", "kind": "interactive"},
        "tenant": "acme",
        "attempt": 1,
        "worker_id": "w-1",
        "usage": {"prompt_tokens": 1200, "completion_tokens": 50},
        "arrived_at": "2026-11-21T09:00:00Z",
        "slack_s": None,
        "deadlines_met": {"ttft": True, "tbt": True, "ttlt": None},
        "why_late": None,
        "times": {
            "total_s": 4.0,
            "until_first_token": {"publish_s": 0.012, "waiting_s": 2.1, "paced_s": None},
            "until_end": {"decode_s": 1.888, "brand_new_s": 0.5},
            "clock_skew_s": -0.5,
        },
        "events": [event(0.012, "admitted"), event(0.5, "relegated", "not all can be met")],
    } | changes


def shown(document: dict[str, Any]) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        for part in report(document):
            console.print(part)
    return captured.get()


@pytest.mark.parametrize("trace_id", [None, "0af7651916cd43dd8448eb211c80319c"])
def test_the_trace_is_named_where_there_is_one(trace_id: str | None) -> None:
    printed = shown(job(trace_id=trace_id))
    assert (f"Its trace is {trace_id}." in printed) == ("trace" in printed) == bool(trace_id)


def test_where_the_time_of_a_late_job_went() -> None:
    printed = shown(job(why_late=LATE, relegated=True))

    assert f"{JOB}  completed, relegated" in printed
    assert "niyama-tiny, chat, acme, attempt 1 on w-1, 1,200 tokens in, 50 out" in printed
    assert LATE in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ["prefill", "waiting", "2.1", "s", "█" * 30] in lines
    assert ["publish", "12", "ms", "▏"] in lines
    assert ["from", "there", "to", "the", "end", "2.4", "s"] in lines
    assert ["clocks", "disagree", "by", "-500", "ms"] in lines
    assert ["in", "all", "4.0", "s"] in lines
    assert ["+500", "ms", "relegated", "not", "all", "can", "be", "met"] in lines
    assert "pacing" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_job_in_time_and_one_that_is_open() -> None:
    assert "Every target was met." in shown(job())
    assert "12.5 s are left until its deadline." in shown(job(slack_s=12.5, status="queued"))


def test_a_job_of_which_nothing_is_known_but_its_record() -> None:
    nothing = {"prompt_tokens": None, "completion_tokens": None}
    printed = shown(
        job(status="queued", attempt=0, worker_id=None, usage=nothing, times=None, events=[])
    )
    assert printed.splitlines()[1].strip() == "niyama-tiny, chat, acme"


def test_attempts_are_told_apart_when_there_are_several() -> None:
    events = [event(0.1, "admitted"), event(9, "retried", "its worker died", attempt=2)]
    assert "attempt 2 on w-1: its worker died" in shown(job(events=events))


def test_what_anybody_may_have_written_does_not_control_the_terminal() -> None:
    escape = "\x1b]0;owned\x07\x1b[2J\x9b2J [red]x[/red]"
    printed = shown(job(why_late=escape, model=escape, events=[event(1, "cancelled", escape)]))
    assert not set("\x1b\x07\x9b") & set(printed)
    assert printed.count("[red]x[/red]") == 3


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'17' is not a job id"):
        status.main(["17"])
