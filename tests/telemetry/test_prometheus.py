"""A real Prometheus scrapes the stack, and promtool has nothing to complain about.

`make test-telemetry` runs it: Debian's package of Prometheus is unpacked once.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from niyama.local.stack import LocalStack
from niyama.telemetry.table import declared, exposed_name, of_faststream
from tests.support.prometheus import complaints, prometheus, tools

JOBS = 10
LIMIT_S = 60.0


def run_jobs(stack: LocalStack) -> None:
    """Jobs of two classes; returns when all have ended."""
    with httpx.Client(base_url=stack.api_url, timeout=LIMIT_S) as client:
        urls = []
        for number in range(JOBS):
            qos = "chat" if number % 2 else "q2"
            body = {"model": "niyama-tiny", "prompt": "Hello " * 50, "qos": qos, "max_tokens": 4}
            urls.append(client.post("/v1/jobs", json=body).raise_for_status().json()["job_id"])
        for job_id in urls:
            until(lambda job_id=job_id: ended(client, job_id), f"the end of {job_id}")


def ended(client: httpx.Client, job_id: str) -> bool:
    job = client.get(f"/v1/jobs/{job_id}", params={"wait": 10}).raise_for_status().json()
    return job["status"] == "completed"


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, f"no sign of {what}"
        time.sleep(0.2)


def scraped(url: str) -> str:
    return httpx.get(f"{url}/metrics").raise_for_status().text


def without_sglang(text: str) -> str:
    """SGLang's metrics have names, and kinds, of their own."""
    return "".join(line for line in text.splitlines(keepends=True) if "sglang:" not in line)


def test_prometheus_scrapes_what_jobs_leave(stack: LocalStack, tmp_path: Path) -> None:
    run_jobs(stack)
    gateway, worker = (url.removeprefix("http://") for url in (stack.api_url, stack.worker_url))

    with prometheus(tmp_path, gateway, worker) as running:
        until(lambda: running.value("up") == 2, "both targets")
        met = 'niyama_jobs_ended_total{niyama_qos_kind="batch", niyama_met="true"}'
        until(lambda: (running.value(met) or 0) >= JOBS / 2, "batch jobs in time")
        until(lambda: (running.value("niyama_ledger_ended_jobs_total") or 0) >= JOBS, "endings")
        iterations = "niyama_scheduler_iteration_duration_seconds_count"
        until(lambda: (running.value(iterations) or 0) > JOBS, "iterations")
        assert running.value("niyama_scheduler_kv_size") == 6144


def test_sglangs_own_metrics_are_beside_the_workers(stack: LocalStack) -> None:
    run_jobs(stack)
    families = {
        family.name: sum(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(scraped(stack.worker_url))
    }
    assert families["sglang:prompt_tokens"] >= JOBS * 50
    assert families["sglang:num_requests"] >= JOBS
    assert families["sglang:max_total_num_tokens"] == 6144


def test_promtool_has_nothing_to_complain_about(stack: LocalStack) -> None:
    run_jobs(stack)
    for url in (stack.api_url, stack.worker_url):
        assert complaints(without_sglang(scraped(url)).encode()) == ""


def test_the_alerts_are_rules() -> None:
    rules = Path(__file__).parents[2] / "docs" / "alerts.yaml"
    subprocess.run([tools() / "promtool", "check", "rules", rules], check=True, timeout=60)


def test_every_series_is_documented(stack: LocalStack) -> None:
    known = {exposed_name(each).removesuffix("_total") for each in declared()} | {"target_info"}
    known |= {each.name for each in of_faststream()}
    for url in (stack.api_url, stack.worker_url):
        families = text_string_to_metric_families(without_sglang(scraped(url)))
        assert {family.name for family in families} - known == set()
