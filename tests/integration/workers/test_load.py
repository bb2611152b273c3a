"""What workers say about how busy they are."""

import asyncio
from typing import Any

import httpx

from niyama import kafka
from niyama.kafka import ConsumedRecord
from schemas import EventType, LoadReport
from tests.support.workers import PATIENCE_S, Harness


async def load_records(harness: Harness) -> list[ConsumedRecord]:
    """All records of the load topic, up to the first that deletes a report."""
    consumer = kafka.consumer(harness.settings, harness.settings.topics.load.name)
    await consumer.start()
    records: list[ConsumedRecord] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not records or records[-1].value is not None:
                records.append(await consumer.getone())
    finally:
        await consumer.stop()
    return records


async def test_a_worker_reports_its_load_that_it_drains_and_then_deletes_its_report(
    harness: Harness,
) -> None:
    reading = asyncio.create_task(load_records(harness))
    worker = await harness.worker(worker_id="w-1")
    job_id = await harness.publish("gate", stream=True)
    await harness.until_type(job_id, EventType.FIRST_TOKEN)
    draining = asyncio.create_task(worker.drain())
    await harness.settle(0.5)
    worker.engine.gates["gate"].set()
    await draining

    records = await reading
    reports = [LoadReport.model_validate_json(each.value or b"") for each in records[:-1]]
    assert {record.key for record in records} == {f"{harness.settings.pool}/w-1".encode()}
    assert {report.worker_id for report in reports} == {"w-1"}
    share = next(t for t in reports[-1].topics if t.topic.endswith(".interactive"))
    assert (reports[-1].draining, reports[-1].running_decodes, share.jobs) == (True, 1, 1)
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
