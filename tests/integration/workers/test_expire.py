"""A job that is not worth serving late, from Kafka through the ledger to its reply topic."""

import asyncio

import httpx

from niyama import kafka
from schemas import EventType, JobEvent
from tests.support.workers import Harness


async def test_a_job_that_waited_too_long_expires_and_others_are_served(harness: Harness) -> None:
    late = await harness.publish("late", expire_after_s=0.2)
    patient = await harness.publish("patient", expire_after_s=600)
    await asyncio.sleep(0.3)
    worker = await harness.worker()
    expired, served = await harness.until_ended(late, patient)
    assert (expired.type, served.type) == (EventType.EXPIRED, EventType.COMPLETED)
    assert expired.reason == "prefill had not started 0.2 s after arrival"
    assert expired.usage.prompt_tokens > 0
    assert harness.types(late) == [EventType.ADMITTED, EventType.EXPIRED]
    await worker.drain()

    again = await harness.worker()
    await harness.settle(0.5)
    assert again.engine.seen == []  # its end was committed


async def test_the_expiry_reaches_the_ledger_and_the_reply_topic(
    harness: Harness, api: httpx.AsyncClient
) -> None:
    answers = f"niyama-replies.{harness.settings.topic_prefix}"
    job = {"model": "null", "prompt": "late", "qos": {"ttlt_s": 60}, "expire_after_s": 0.2}
    async with asyncio.timeout(60):
        while (await api.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
    accepted = await api.post("/v1/jobs", json=job | {"reply_topic": answers})
    await asyncio.sleep(0.3)
    await harness.worker()
    shown = (await api.get(accepted.headers["location"], params={"wait": 60})).json()

    assert (shown["status"], shown["expire_after_s"]) == ("expired", 0.2)
    assert shown["reason"] == "prefill had not started 0.2 s after arrival"
    assert shown["deadlines_met"]["ttlt"] is False
    last = shown["events"][-1]
    assert (last["type"], last["reason"]) == ("expired", shown["reason"])
    assert last["prediction"]["deadline_at"] == shown["deadlines"]["last_token_at"]
    reply = await _first(harness, answers)
    assert (str(reply.job_id), reply.type) == (shown["job_id"], EventType.EXPIRED)


async def _first(harness: Harness, topic: str) -> JobEvent:
    reader = kafka.consumer(harness.settings, topic, isolation_level="read_committed")
    await reader.start()
    try:
        async with asyncio.timeout(60):
            record = await anext(reader)
        return JobEvent.model_validate_json(record.value)
    finally:
        await reader.stop()
