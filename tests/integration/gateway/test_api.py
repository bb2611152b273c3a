"""The HTTP API of a gateway process, on the real Kafka and the real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.dialects import postgresql

from gateway.bootstrap import build, listen
from gateway.ledger.queries import Cursor, JobFilter, listing
from gateway.settings import GatewaySettings
from schemas import JobControl, JobRequest, JobStatus
from schemas.decode import decode_job
from tests.support.records import JOB_DOCUMENT, TRACEPARENT
from tests.support.wire import PATIENCE_S, Wire, published


@pytest.fixture
async def api(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that is ready."""
    gateway = build(settings.model_copy(update={"model": "m"}))
    listener = listen(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(gateway.run(listener))
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        async with asyncio.timeout(PATIENCE_S):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        yield client
        gateway.stop()
    await asyncio.wait_for(task, 60)


async def test_a_job_can_be_submitted_followed_and_found_in_kafka(
    api: httpx.AsyncClient, settings: GatewaySettings, wire: Wire
) -> None:
    trace = {"traceparent": TRACEPARENT.decode()}
    answer = await api.post("/v1/jobs", json=JOB_DOCUMENT, headers=trace)
    location = answer.headers["location"]
    immediate = (await api.get(location)).json()
    job_id = UUID(answer.json()["job_id"])
    await wire.event(job_id, "admitted")
    await wire.event(job_id, "started")
    waiting = asyncio.create_task(api.get(location, params={"wait": 60}))
    await wire.event(
        job_id,
        "completed",
        result={"text": "Hi", "finish_reason": "stop"},
        usage={"prompt_tokens": 2, "completion_tokens": 1},
    )
    final = (await waiting).json()

    assert answer.status_code == 202
    assert (immediate["status"], immediate["slack_s"] > 3500) == ("queued", True)
    assert answer.json()["deadlines"]["last_token_at"] == immediate["deadlines"]["last_token_at"]
    assert final["status"] == "completed"
    assert final["result"]["text"] == "Hi"
    assert final["deadlines_met"]["ttlt"] is True
    assert final["usage"]["completion_tokens"] == 1
    assert [event["type"] for event in final["events"]] == ["admitted", "started", "completed"]
    (record,) = await published(settings, settings.topics.batch.name)
    assert record.key == str(job_id).encode()
    assert dict(record.headers) == {"traceparent": trace["traceparent"].encode()}
    job = decode_job(record.value)
    assert isinstance(job, JobRequest)
    assert (job.job_id, job.prompt) == (job_id, "Hello")


async def test_an_idempotency_key_gives_one_job(
    api: httpx.AsyncClient, settings: GatewaySettings, wire: Wire
) -> None:
    key = {"Idempotency-Key": "order 17"}

    together = await asyncio.gather(
        *(api.post("/v1/jobs", json=JOB_DOCUMENT, headers=key) for _ in range(5))
    )
    await wire.until("SELECT count(*) = 1 FROM jobs")
    later = await api.post("/v1/jobs", json=JOB_DOCUMENT, headers=key)
    other_tenant = await api.post("/v1/jobs", json=JOB_DOCUMENT | {"tenant": "b"}, headers=key)
    other_body = await api.post("/v1/jobs", json=JOB_DOCUMENT | {"prompt": "Bye"}, headers=key)

    assert sorted(answer.status_code for answer in together) == [200, 200, 200, 200, 202]
    assert later.status_code == 200
    assert len({answer.json()["job_id"] for answer in (*together, later)}) == 1
    assert other_tenant.status_code == 202
    assert other_body.status_code == 409
    assert "another Idempotency-Key" in other_body.json()["detail"]
    assert len(await published(settings, settings.topics.batch.name)) == 2


async def test_a_job_id_of_the_clients_own_is_kept(api: httpx.AsyncClient) -> None:
    job = JOB_DOCUMENT | {"job_id": str(uuid4())}

    first, again = [await api.post("/v1/jobs", json=job) for _ in range(2)]
    both = await api.post("/v1/jobs", json=job, headers={"Idempotency-Key": "x"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["job_id"] == again.json()["job_id"] == job["job_id"]
    assert both.status_code == 422


async def test_lists_are_filtered_and_paged(api: httpx.AsyncClient, wire: Wire) -> None:
    for number in range(7):
        await api.post("/v1/jobs", json=JOB_DOCUMENT | {"tenant": "a" if number % 2 else "b"})
    failed = await wire.job(tenant="a", qos="q2")
    await wire.event(failed, "failed", error={"code": "engine_error", "message": "x"})
    await wire.until_status(failed, "failed")
    await wire.until("SELECT count(*) = 8 FROM jobs WHERE arrived_at IS NOT NULL")

    async def ids(**query: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = (await api.get("/v1/jobs", params=query)).json()
            found += [job["job_id"] for job in page["jobs"]]
            await api.post("/v1/jobs", json=JOB_DOCUMENT | {"tenant": "new"})  # moves nothing
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    everything = (await api.get("/v1/jobs")).json()["jobs"]
    arrivals = [job["arrived_at"] for job in everything]
    assert arrivals == sorted(arrivals, reverse=True)
    assert await ids(limit=3, tenant="a") == [
        job["job_id"] for job in everything if job["tenant"] == "a"
    ]
    assert await ids(status="failed") == [str(failed)]
    assert await ids(status=["failed", "queued"], qos="q2", limit=1) == [str(failed)]
    assert await ids(qos="q3") == []


async def test_cancelling(api: httpx.AsyncClient, settings: GatewaySettings, wire: Wire) -> None:
    queued = (await api.post("/v1/jobs", json=JOB_DOCUMENT)).json()["links"]["self"]
    running = await wire.job()
    await wire.event(running, "started")
    await wire.until_status(running, "running")

    cancelled = await api.delete(queued)
    asked = await api.delete(f"/v1/jobs/{running}")
    over = await api.get(queued, params={"wait": 60})
    again = await api.delete(queued)

    assert (cancelled.status_code, asked.status_code, again.status_code) == (202, 202, 200)
    assert over.json()["status"] == "cancelled"
    await wire.until("SELECT cancel_requested_at IS NOT NULL FROM jobs WHERE job_id = $1", running)
    assert (await api.get(f"/v1/jobs/{running}")).json()["status"] == "running"
    controls = [
        JobControl.model_validate_json(record.value).job_id
        for record in await published(settings, settings.topics.control.name)
    ]
    assert controls == [UUID(queued.rpartition("/")[2]), running]


async def test_the_reply_is_sent_when_the_job_is_over(
    api: httpx.AsyncClient, settings: GatewaySettings, wire: Wire, topic_prefix: str
) -> None:
    topic = f"niyama-replies.{topic_prefix}"
    answer = await api.post("/v1/jobs", json=JOB_DOCUMENT | {"reply_topic": topic})
    event = await wire.event(UUID(answer.json()["job_id"]), "completed")
    await wire.until("SELECT count(*) = 1 FROM jobs WHERE status = 'completed'")
    await wire.until("SELECT count(*) = 0 FROM reply_outbox")

    (record,) = await published(settings, topic)
    assert record.value == event.to_bytes()


async def test_what_the_client_sends_survives_a_result_that_postgres_could_not_store(
    api: httpx.AsyncClient, wire: Wire
) -> None:
    answer = await api.post(
        "/v1/jobs", json=JOB_DOCUMENT | {"prompt": "a\0b", "metadata": {"k": "\0"}}
    )
    job_id = UUID(answer.json()["job_id"])
    await wire.event(job_id, "completed", result={"text": "\0!", "finish_reason": "stop"})
    view = (await api.get(answer.headers["location"], params={"wait": 60})).json()

    assert view["result"]["text"] == "\ufffd!"
    assert view["metadata"] == {"k": "\ufffd"}


async def test_the_plans_of_the_lists_use_the_indexes(
    api: httpx.AsyncClient, postgres: asyncpg.Connection
) -> None:
    await postgres.execute(
        "INSERT INTO jobs (job_id, status, arrived_at, tenant, qos_class, kind, finished_at, "
        "attempt, relegations, parks, terminal_events) "
        "SELECT gen_random_uuid(), (CASE WHEN n % 500 = 0 THEN 'failed' ELSE 'completed' END)"
        "::job_status, now() - n * interval '1 second', 't' || n % 200, 'c' || n % 100, 'batch', "
        "now(), 1, 0, 0, 1 FROM generate_series(1, 20000) AS n"
    )
    await postgres.execute("ANALYZE jobs")
    after = Cursor(datetime.now(UTC), uuid4())
    expected = {
        "jobs_by_arrival": JobFilter(),
        "jobs_of_tenant": JobFilter(tenant="t7"),
        "jobs_of_class": JobFilter(qos_class="c7"),
        "jobs_by_status": JobFilter(statuses=(JobStatus.FAILED,)),
    }
    for index, wanted in expected.items():
        query = listing(wanted, 50, after).compile(
            dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
        )
        plan = await postgres.fetch(f"EXPLAIN {query}")
        text = "\n".join(row[0] for row in plan)
        assert index in text, text
        assert "Sort" not in text.replace("Incremental Sort", ""), text
