"""What `niyama workers` prints."""

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from gateway.api import fleet_views
from gateway.fleet.fleet import WorkerStatus
from niyama import workers
from niyama.api import Api
from niyama.errors import NiyamaError, UnavailableError
from niyama.workers_table import tables
from schemas.load import Backlog, PredictedTtft, SchedulerLoad, TopicShare, WorkerLimits
from tests.support.loads import load_report

BUSY = load_report(
    "a-machine-with-a-long-name-31337-ab12",
    running_decodes=1_420,
    generated_tokens_per_s=12_345.6,
    used_kv_tokens=10_000,
    limits=WorkerLimits(interactive_jobs=1, batch_jobs=1, kv_tokens=10_000),
    topics=[TopicShare(topic="t", partitions=[0], jobs=2_048, prompt_tokens=9, lag=99_999)],
    scheduler=SchedulerLoad(
        waiting=1, prefilling=1, overdue=0, demand=12.5, capacity_tokens_per_s=1_000,
        backlog=[
            Backlog(kind="batch", due_within_s=60, work_s=8),
            Backlog(kind="batch", work_s=900),
        ],
        ttft=[PredictedTtft(prompt_tokens=1_024, ttft_s=0.25)],
    ),
)  # fmt: skip
KNOWN = [
    WorkerStatus(BUSY, 0.4),
    WorkerStatus(load_report("null"), 0.4),
    WorkerStatus(load_report("died"), 42.0),
]


def document(known: list[WorkerStatus]) -> dict[str, Any]:
    return {
        "workers": [fleet_views.worker(each).model_dump(mode="json") for each in known],
        "total": len(known),
        "following": True,
        "pools": [
            each.model_dump(mode="json")
            for each in map(fleet_views.pool, fleet_views.by_pool(known))
        ],
    }


def printed(known: list[WorkerStatus], width: int = 80) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(*tables(document(known), width), sep="\n")
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_table_of_a_busy_pool_fits_eighty_columns() -> None:
    head, _, names, _, busy, null, died = printed(KNOWN)
    assert head.startswith("default (tiny): 2 serving, 1 gone; 2,048 jobs taken")
    assert names.split() == [
        *("worker", "state", "jobs", "lag", "decodes"),
        *("/s", "KV", "demand", "(s)", "1k", "(s)"),
    ]
    assert busy.split() == [
        *("a-mach…7-ab12", "serving", "2,048", "99,999", "1,420"),
        *("12,346", "100%", "12.50", "900", "0.25"),
    ]
    assert null.split() == ["null", "serving", "0", "-", "0", "-", "-", "-", "-", "-"]
    assert died.split() == ["died", "gone", "42.0", "s"]
    assert max(map(len, printed(KNOWN))) <= 80
    assert "a-machine-with-a-long-name-31337-ab12" in printed(KNOWN, 120)[4]


def test_a_name_is_shown_whole_where_the_other_columns_leave_room() -> None:
    quiet = WorkerStatus(load_report("a-quiet-machine-31337"), 0.4)
    assert printed([quiet])[-1].startswith("a-quiet-machine-31337 serving ")


def test_without_workers_it_says_so() -> None:
    assert printed([]) == ["no worker has reported in the last five minutes"]
    nobody = document([])
    (of_pool,) = tables(nobody, 80, "nights")
    assert str(of_pool) == "no worker of pool 'nights' has reported in the last five minutes"
    (unknown,) = tables(nobody | {"following": False}, 80)
    assert "does not read load reports" in str(unknown)


def test_that_the_gateway_is_blind_is_said_of_workers_that_seem_to_be_gone() -> None:
    *_, last = tables(document(KNOWN) | {"following": False}, 80)
    assert "does not read load reports" in str(last)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_api: Api, path: str, **_parameters: str | None) -> dict[str, Any]:
        answer = document(KNOWN)
        pools = answer.pop("pools")
        return {"pools": pools} if path == "/v1/pools" else answer

    monkeypatch.setattr(Api, "get", get)


@pytest.mark.usefixtures("answering")
def test_json_is_what_the_api_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert workers.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document(KNOWN)


@pytest.mark.usefixtures("answering")
def test_where_there_is_no_terminal_the_table_is_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert workers.main(["--pool", "default"]) == 0
    assert "2 serving, 1 gone" in capsys.readouterr().out


def test_the_table_is_kept_until_ctrl_c_whatever_becomes_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([document(KNOWN), UnavailableError("it is away"), document(KNOWN[:1])])

    def ask() -> dict[str, Any]:
        answer = next(looks, None)
        if answer is None:
            raise KeyboardInterrupt
        if isinstance(answer, NiyamaError):
            raise answer
        return answer

    monkeypatch.setattr("time.sleep", lambda _: None)
    console = Console(file=StringIO(), width=80, force_terminal=True)
    workers._keep_showing(ask, console, workers.WorkersSettings())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "it is away" in shown
    assert "1 serving" in shown
