"""A run passes when something happened, and nothing went wrong."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from schemas.event import Source
from tests.chaos.faults import InjectedFault
from tests.chaos.hostile import SentRecord
from tests.chaos.journal import Journal
from tests.chaos.ledger import OutcomeWatcher
from tests.chaos.reconcile import Verdict
from tests.chaos.report import Report
from tests.support.virtual_time import run_in_virtual_time

FAULT = InjectedFault("worker-kill", "worker-1", 1.0, 2.0)
RECORD = SentRecord("empty-value", "jobs", 1.0, Source(topic="jobs", partition=0, offset=1))
EVERYTHING = {"verdict": Verdict(jobs=1), "faults": [FAULT], "hostile": [RECORD]}


def report(**happened: Any) -> Report:
    """Of a run that planned one of each, and shows what the arguments say."""
    nothing: dict[str, Any] = {"verdict": Verdict(jobs=0), "faults": [], "hostile": []}
    return Report(
        seed=1,
        options={},
        started_at_s=0.0,
        journal=Journal(),
        recoveries=[],
        normal_overhead_s=0.0,
        deaths=[],
        planned={"jobs": 1, "faults": 1, "hostile records": 1},
        looks=1,
        **(nothing | happened),
    )


@pytest.mark.parametrize(
    ("happened", "missing"),
    [
        ({}, ["jobs", "faults", "hostile records"]),
        (EVERYTHING, []),
        (EVERYTHING | {"faults": [replace(FAULT, skipped="not root")]}, ["faults"]),
        (EVERYTHING | {"hostile": [replace(RECORD, source=None)]}, ["hostile records"]),
    ],
    ids=["nothing", "everything", "only skipped faults", "no record was taken"],
)
def test_a_run_in_which_nothing_happens_does_not_pass(
    happened: dict[str, Any], missing: list[str]
) -> None:
    found = report(**happened)
    assert found.missing == missing
    assert found.passed == (not missing)
    assert found.numbers()["planned without effect"] == len(missing)


def test_what_was_not_planned_need_not_happen() -> None:
    found = report(verdict=Verdict(jobs=1))
    assert replace(found, planned={"jobs": 1, "faults": 0, "hostile records": 0}).passed


def test_the_ledger_is_looked_at_again_after_its_connection_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Connection:
        async def fetch(self, _: str) -> list[object]:
            answers.pop(0)()
            return []

        def terminate(self) -> None:
            pass

    def closed() -> None:
        raise asyncpg.InternalClientError("another operation is in progress")

    async def connect(*_: object, **__: object) -> Connection:
        return Connection()

    async def check() -> None:
        watcher = OutcomeWatcher("postgresql://")
        watching = asyncio.create_task(watcher.run())
        while answers:
            await asyncio.sleep(1)
        watching.cancel()
        assert watcher.looks == 1

    answers = [closed, lambda: None]
    monkeypatch.setattr(asyncpg, "connect", connect)
    run_in_virtual_time(check())
