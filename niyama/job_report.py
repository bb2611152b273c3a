"""A job for a terminal, from what the status API says of it."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from niyama.durations import duration

_BAR_COLUMNS = 30
_CLOCKS_AGREE_S = 0.005
_SHOWN_S = 0.0005
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAMES = {
    "publish_s": "publish",
    "queue_s": "queue",
    "earlier_attempts_s": "earlier attempts",
    "preparing_s": "preparing",
    "intake_s": "until admitted",
    "waiting_s": "prefill waiting",
    "parked_s": "prefill parked",
    "computing_s": "prefill computing",
    "prefill_s": "prefill",
    "decode_s": "decode",
    "beside_s": "beside other jobs",
    "retracted_s": "KV taken back",
    "paced_s": "held back by pacing",
    "answer_s": "answer",
    "delivery_s": "delivery",
}
"""In the order in which a job passes through them."""


def report(job: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What the job is, whether it was in time, where its time went, and what happened to it."""
    yield Text(_headline(job), style="bold")
    yield _shown(", ".join(_facts(job)))
    if job.get("why_late"):
        yield Text.assemble("\n", _shown(job["why_late"]), style="red")
    elif promise := _promise(job):
        yield Text(f"\n{promise}")
    if trace_id := job.get("trace_id"):
        yield Text(f"Its trace is {trace_id}.")
    if times := job.get("times"):
        yield Padding(_times(times), (1, 0, 0, 0))
    if job["events"]:
        yield Padding(_events(job), (1, 0, 0, 0))


def _headline(job: Mapping[str, Any]) -> str:
    status = f"{job['status']}, relegated" if job["relegated"] else job["status"]
    return f"{job['job_id']}  {status}"


def _facts(job: Mapping[str, Any]) -> Iterator[str]:
    qos = job.get("qos") or {}
    for name in (job.get("model"), qos.get("name") or qos.get("kind"), job.get("tenant")):
        if name:
            yield str(name)
    if job["attempt"]:
        yield f"attempt {job['attempt']} on {job['worker_id']}"
    tokens = job["usage"]
    if tokens["prompt_tokens"] is not None:
        yield f"{tokens['prompt_tokens']:,} tokens in"
    if tokens["completion_tokens"] is not None:
        yield f"{tokens['completion_tokens']:,} out"


def _promise(job: Mapping[str, Any]) -> str | None:
    """How a job that has not missed a deadline stands against it."""
    slack_s = job.get("slack_s")
    if slack_s is not None:
        return f"{duration(slack_s)} are left until its deadline."
    met = [each for each in job["deadlines_met"].values() if each is not None]
    return "Every target was met." if met and all(met) else None


def _times(times: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=max(map(len, NAMES.values())))
    table.add_column(justify="right")
    table.add_column()
    first, rest = times["until_first_token"], times["until_end"]
    longest_s = max([*_given(first or {}).values(), *_given(rest).values(), 1e-9])
    if first is None:
        _add_parts(table, "from arrival to end", rest, longest_s)
    else:
        _add_parts(table, "to the first token", first, longest_s)
        _add_parts(table, "from there to the end", rest, longest_s)
    if abs(times["clock_skew_s"]) > _CLOCKS_AGREE_S:
        table.add_row(Text("clocks disagree by", style="dim"), duration(times["clock_skew_s"]), "")
    table.add_row(Text("in all", style="bold"), Text(duration(times["total_s"]), style="bold"), "")
    return table


def _add_parts(table: Table, title: str, parts: Mapping[str, Any], longest_s: float) -> None:
    whole_s = sum(value for value in parts.values() if value)
    table.add_row(Text(title, style="bold"), duration(whole_s), "")
    for name, value in _given(parts).items():
        bar = "█" * round(_BAR_COLUMNS * value / longest_s) or "▏"
        table.add_row(f"  {NAMES.get(name, name)}", duration(value), Text(bar, style="cyan"))


def _given(parts: Mapping[str, Any]) -> dict[str, float]:
    """The parts that took time which is shown, the known ones first."""
    names = [*NAMES, *(name for name in parts if name not in NAMES)]
    return {name: s for name in names if (s := parts.get(name) or 0.0) >= _SHOWN_S}


def _events(job: Mapping[str, Any]) -> Table:
    """When, since the job's arrival or since its first event, what happened, and why."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    events = job["events"]
    start = datetime.fromisoformat(job["arrived_at"] or events[0]["at"])
    several = len({event["attempt"] for event in events}) > 1
    for event in events:
        after_s = (datetime.fromisoformat(event["at"]) - start).total_seconds()
        where = f"attempt {event['attempt']} on {event['worker_id']}" if several else ""
        said = ": ".join(each for each in (where, event["reason"] or "") if each)
        table.add_row(_offset(after_s), event["type"], _shown(said))
    return table


def _offset(seconds: float) -> str:
    """Of an event; the clocks of a producer and a worker can set it before the arrival."""
    return duration(seconds) if seconds < 0 else f"+{duration(seconds)}"


def _shown(said: str) -> Text:
    """Text that anybody may have written: nothing in it controls the terminal, or is markup."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", said))
