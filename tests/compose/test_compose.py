"""`docker compose up`, seen from outside. Heavy: `make test-compose`, not part of `make test`."""

import httpx
import pytest

from niyama.client import Producer
from schemas import JobRequest
from tests.compose.jobs import job, wait_for_states
from tests.compose.project import ComposeProject

COMPLETED = {"completed"}


async def publish(producer: Producer, *jobs: JobRequest) -> list[str]:
    return [str((await producer.publish(each)).job_id) for each in jobs]


async def publish_and_see_running(producer: Producer, api: httpx.Client) -> list[str]:
    job_ids = await publish(producer, *[job(max_tokens=600) for _ in range(4)])
    wait_for_states(api, job_ids, {"running"}, timeout_s=60)
    return job_ids


async def test_a_job_published_through_kafka_completes(
    producer: Producer, api: httpx.Client
) -> None:
    [job_id] = await publish(producer, job(max_tokens=16, qos="chat"))
    wait_for_states(api, [job_id], COMPLETED, timeout_s=60)
    assert api.get(f"/v1/jobs/{job_id}").json()["usage"]["completion_tokens"] == 16


def test_a_job_posted_over_http_completes(api: httpx.Client) -> None:
    answer = api.post("/v1/jobs", json=job().model_dump(mode="json", exclude_defaults=True))
    assert answer.status_code == 202, answer.text
    wait_for_states(api, [answer.json()["job_id"]], COMPLETED, timeout_s=60)


@pytest.mark.parametrize("service", ["gateway", "worker", "kafka", "postgres"])
async def test_restarting_a_service_loses_no_job(
    project: ComposeProject, producer: Producer, api: httpx.Client, service: str
) -> None:
    job_ids = await publish_and_see_running(producer, api)
    project.run("restart", service)
    project.up()  # returns when all of it is healthy again
    wait_for_states(api, job_ids, COMPLETED, timeout_s=120)


async def test_killing_the_worker_loses_no_job(
    project: ComposeProject, producer: Producer, api: httpx.Client
) -> None:
    job_ids = await publish_and_see_running(producer, api)
    project.run("kill", "--signal", "SIGKILL", "worker")
    project.up()
    wait_for_states(api, job_ids, COMPLETED, timeout_s=120)
    attempts = [api.get(f"/v1/jobs/{each}").json()["attempt"] for each in job_ids]
    assert max(attempts) > 1


async def test_volumes_keep_jobs_and_ledger_through_down_and_up(
    project: ComposeProject, producer: Producer, api: httpx.Client
) -> None:
    [finished] = await publish(producer, job())
    wait_for_states(api, [finished], COMPLETED, timeout_s=60)
    project.run("stop", "worker")
    [waiting] = await publish(producer, job())
    wait_for_states(api, [waiting], {"queued"}, timeout_s=60)
    project.down()
    project.up()
    wait_for_states(api, [finished, waiting], COMPLETED, timeout_s=60)


@pytest.mark.parametrize("service", ["gateway", "worker"])
def test_commands_do_not_run_as_root(project: ComposeProject, service: str) -> None:
    assert project.run("exec", "--no-TTY", service, "id", "--user").strip() != "0"


def test_the_gateway_image_has_no_torch(project: ComposeProject) -> None:
    find = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert project.run("exec", "--no-TTY", "gateway", "python", "-c", find).strip() == "None"
