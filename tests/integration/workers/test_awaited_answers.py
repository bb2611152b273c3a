"""Answers that somebody waits for as a whole: from the client library to the status API."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from niyama import JobRequest
from schemas import JobStatus, QosTargets, Task
from tests.support.workers import Harness
from workers.engine.null import NullEngine

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def _over(api: httpx.AsyncClient, job_id: UUID) -> dict[str, Any]:
    """The job as the API shows it, once it has ended."""
    async with asyncio.timeout(120):
        while True:
            answer = await api.get(f"/v1/jobs/{job_id}", params={"wait": 10})
            if answer.is_success and not JobStatus(answer.json()["status"]).is_open:
                shown: dict[str, Any] = answer.json()
                return shown
            await asyncio.sleep(0.05)


async def test_a_job_of_each_kind_is_served_and_judged_by_its_last_token(
    harness: Harness, api: httpx.AsyncClient
) -> None:
    task = Task(id="trip-17", deadline=datetime.now(UTC) + timedelta(minutes=10), calls_left=0)
    await harness.worker_on(NullEngine())
    tool = await harness.publish("tool", qos=QosTargets(ttlt_ms=300_000))
    call = await harness.publish("call", qos=QosTargets(task=task))
    late = await harness.publish(
        "late", qos=QosTargets(task=task.model_copy(update={"deadline": LONG_AGO}))
    )
    of_tool, of_call, of_late = [await _over(api, job_id) for job_id in (tool, call, late)]

    assert {of["status"] for of in (of_tool, of_call, of_late)} == {"completed"}
    assert (of_tool["qos"]["kind"], of_tool["qos"]["ttlt_ms"]) == ("deadline", 300_000)
    assert of_tool["deadlines"]["first_token_at"] is None
    assert of_tool["deadlines_met"] == {"ttft": None, "tbt": None, "ttlt": True}
    assert of_call["qos"]["task"] == task.model_dump(mode="json")
    assert of_call["deadlines"]["last_token_at"] == of_call["qos"]["task"]["deadline"]
    assert of_call["deadlines_met"]["ttlt"] is True
    assert of_late["deadlines_met"]["ttlt"] is False


async def test_a_kind_that_is_not_known_fails_for_its_own_record_only(
    harness: Harness, api: httpx.AsyncClient
) -> None:
    """So does a job of a kind that came after this version."""
    await harness.worker_on(NullEngine())
    await harness.send(b'{"model": "null", "prompt": "p", "qos": {"energy_j": 5}}')
    job = JobRequest(model="null", prompt="p", qos=QosTargets(ttlt_ms=300_000))
    served = await harness.producer.publish(job)
    assert (await _over(api, served.job_id))["status"] == "completed"
    listed: list[dict[str, Any]] = []
    async with asyncio.timeout(120):  # its events are in another partition
        while not listed:
            await asyncio.sleep(0.05)
            listed = (await api.get("/v1/jobs", params={"status": "failed"})).json()["jobs"]
    assert [each["error"]["code"] for each in listed] == ["invalid_request"]
