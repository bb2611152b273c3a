"""What workers say about how busy they are."""

import asyncio
from typing import Any

import httpx
import pytest

from niyama import kafka
from niyama.kafka import ConsumedRecord
from schemas import EventType, LoadReport
from tests.support.workers import PATIENCE_S, Harness
from workers.load import publisher


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does nothing for some seconds still gets the last report deleted."""
    monkeypatch.setattr(publisher, "WITHDRAWAL_LIMIT_S", PATIENCE_S)
    monkeypatch.setattr(publisher, "SEND_LIMIT_S", PATIENCE_S)


async def read_load(harness: Harness, records: list[ConsumedRecord]) -> None:
    """Add the records of the load topic, up to the first that deletes a report."""
    consumer = kafka.consumer(harness.settings, harness.settings.topics.load.name)
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not records or records[-1].value is not None:
                records.append(await consumer.getone())
    finally:
        await consumer.stop()


def reports_in(records: list[ConsumedRecord]) -> list[LoadReport]:
    return [LoadReport.model_validate_json(each.value) for each in records if each.value]


def shows_a_draining_worker(report: LoadReport) -> bool:
    """One that has a job."""
    share = next(each for each in report.topics if each.topic.endswith(".interactive"))
    return (report.draining, report.running_decodes, share.jobs) == (True, 1, 1)


async def test_a_worker_reports_its_load_that_it_drains_and_then_deletes_its_report(
    harness: Harness,
) -> None:
    records: list[ConsumedRecord] = []
    reading = asyncio.create_task(read_load(harness, records))
    worker = await harness.worker(worker_id="w-1")
    job_id = await harness.publish("gate", stream=True)
    await harness.until_type(job_id, EventType.FIRST_TOKEN)
    draining = asyncio.create_task(worker.drain())
    await harness.until(
        lambda: any(map(shows_a_draining_worker, reports_in(records))), "that it drains"
    )
    worker.engine.gates["gate"].set()
    await draining

    await reading
    reports = reports_in(records)
    assert {record.key for record in records} == {f"{harness.settings.pool}/w-1".encode()}
    assert {report.worker_id for report in reports} == {"w-1"}
    assert reports[-1].draining
    assert any(len(topic.partitions) == 3 for report in reports for topic in report.topics)


async def until_workers(api: httpx.AsyncClient, states: list[str]) -> list[dict[str, Any]]:
    """The gateway's list of workers, once their states are these."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = (await api.get("/v1/workers")).json()["workers"]
            if [each["state"] for each in answer] == states:
                return list(answer)
            await asyncio.sleep(0.05)


async def test_a_gateway_shows_who_serves_and_who_is_gone(
    harness: Harness, api: httpx.AsyncClient
) -> None:
    topic = harness.settings.topics.load.name
    odd = [("odd", None), ("odd", b"\xff")]
    await harness._send(topic, b"{nonsense", key=b"x", headers=odd)  # skipped, alone
    drained = await harness.worker(worker_id="w-1")
    died = await harness.worker(worker_id="w-2")
    job_id = await harness.publish("gate", stream=True)
    await harness.until_type(job_id, EventType.FIRST_TOKEN)

    both = await until_workers(api, ["serving", "serving"])
    reports = [each["report"] for each in both]
    assert [each["worker_id"] for each in reports] == ["w-1", "w-2"]
    async with asyncio.timeout(PATIENCE_S):
        while True:
            (pool,) = (await api.get("/v1/pools")).json()["pools"]
            if pool["running_decodes"] == pool["jobs"] == 1:
                break
            await asyncio.sleep(0.05)
    for worker in (drained, died):
        worker.engine.gates["gate"].set()
    await drained.drain()
    assert (await until_workers(api, ["serving"]))[0]["report"]["worker_id"] == "w-2"
    died.task.cancel()  # without a word
    (gone,) = await until_workers(api, ["gone"])
    assert gone["silent_s"] > 4
