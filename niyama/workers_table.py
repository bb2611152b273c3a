"""Workers and pools as tables for a terminal, from what the API says of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from niyama.durations import duration

_STYLES = {"serving": "green", "draining": "yellow", "gone": "red"}
_TTFT_TOKENS = 1024
"""Of the chat whose TTFT the table shows."""
_COLUMNS = ("jobs", "lag", "decodes", "tokens\n/s", "KV", "demand", "backlog\n(s)", "TTFT\n1k (s)")
_UNKNOWN = "-"
_SHORTEST_NAME = 12
_NOT_FOLLOWING = (
    "the gateway does not read load reports: it has just started, or cannot reach Kafka"
)


def tables(
    document: Mapping[str, Any], width: int, pool: str | None = None
) -> list[RenderableType]:
    """A line and a table for each pool, or for the chosen one, on a terminal of so many columns, 80
    at least."""
    found: list[RenderableType] = []
    for each in document["pools"]:
        members = [one for one in document["workers"] if one["report"]["pool"] == each["pool"]]
        found += [_headline(each), _table(members, width)]
    hidden = document["total"] - len(document["workers"])
    if hidden > 0:
        found.append(Text(f"and {hidden:,} more workers"))
    if not document["following"]:
        found.append(Text(_NOT_FOLLOWING))
    return found or [Text(_nobody(pool))]


def _nobody(pool: str | None) -> str:
    chosen = "no worker" if pool is None else f"no worker of pool {pool!r}"
    return f"{chosen} has reported in the last five minutes"


def _headline(pool: Mapping[str, Any]) -> Text:
    states = [f"{pool[state]} {state}" for state in _STYLES if pool[state]]
    waiting = "" if pool["lag"] is None else f", {pool['lag']:,} more in Kafka"
    return Text.assemble(
        (pool["pool"], "bold"),
        f" ({', '.join(pool['models'])})" if pool["models"] else "",
        f": {', '.join(states)}; {pool['jobs']:,} jobs taken{waiting}",
    )


def _table(workers: Sequence[Mapping[str, Any]], width: int) -> Table:
    rows = [(_state(worker), *map(Text, _cells(worker))) for worker in workers]
    name_width = width - _width(rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("worker", no_wrap=True, vertical="bottom")
    table.add_column("state", no_wrap=True, vertical="bottom")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for worker, row in zip(workers, rows, strict=True):
        table.add_row(Text(_shortened(worker["report"]["worker_id"], name_width)), *row)
    return table


def _width(rows: Sequence[Sequence[Text]]) -> int:
    """What the columns beside the name take, each with a space before it."""
    headers = [max(map(len, name.split("\n"))) for name in ("state", *_COLUMNS)]
    columns = zip(headers, *([len(cell) for cell in row] for row in rows), strict=True)
    return sum(1 + max(column) for column in columns)


def _shortened(name: str, width: int) -> str:
    """Without its middle, if it is too long: names often begin alike, or end alike."""
    width = max(width, _SHORTEST_NAME)
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def _state(worker: Mapping[str, Any]) -> Text:
    state = worker["state"]
    silence = f" {duration(worker['silent_s'])}" if state == "gone" else ""
    return Text(f"{state}{silence}", style=_STYLES.get(state, ""))


def _cells(worker: Mapping[str, Any]) -> list[str]:
    """Nobody knows what a worker has that is gone."""
    if worker["state"] == "gone":
        return [""] * len(_COLUMNS)
    report = worker["report"]
    scheduler = report.get("scheduler")
    topics = report["topics"]
    lags = [share.get("lag") for share in topics]
    return [
        f"{sum(share['jobs'] for share in topics):,}",
        _UNKNOWN if not lags or None in lags else f"{sum(lags):,}",
        f"{report['running_decodes']:,}",
        _rate(report.get("generated_tokens_per_s")),
        _kv(report),
        _UNKNOWN if scheduler is None else f"{scheduler['demand']:.2f}",
        _UNKNOWN if scheduler is None else f"{_backlog_s(scheduler):,.0f}",
        _UNKNOWN if scheduler is None else _ttft(scheduler),
    ]


def _rate(per_s: float | None) -> str:
    return _UNKNOWN if per_s is None else f"{per_s:,.0f}"


def _kv(report: Mapping[str, Any]) -> str:
    used, total = report.get("used_kv_tokens"), report["limits"].get("kv_tokens")
    return _UNKNOWN if used is None or not total else f"{used / total:.0%}"


def _backlog_s(scheduler: Mapping[str, Any]) -> float:
    """All of it, whenever it is due."""
    backlog = scheduler["backlog"]
    return float(sum(each["work_s"] for each in backlog if each.get("due_within_s") is None))


def _ttft(scheduler: Mapping[str, Any]) -> str:
    predicted = {each["prompt_tokens"]: each.get("ttft_s") for each in scheduler["ttft"]}
    if _TTFT_TOKENS not in predicted:
        return _UNKNOWN
    ttft_s = predicted[_TTFT_TOKENS]
    return "late" if ttft_s is None else f"{ttft_s:.2f}"
