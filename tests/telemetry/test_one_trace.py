"""One trace, from a producer's own program to the iteration that made the first token.

Real everything: Kafka, Postgres, gateway, worker with SGLang, and an OpenTelemetry Collector.
`make test-telemetry` runs it: building the collector takes a few minutes once.
"""

import subprocess
import sys
from pathlib import Path

import httpx

from niyama.local.stack import LocalStack
from tests.support.otel_collector import ReceivedSpan, RunningCollector
from tests.support.records import TRACEPARENT


def run_producer(stack: LocalStack, collector: RunningCollector) -> tuple[str, str]:
    """The ids of its trace and of its job."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.telemetry.producer"],
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NIYAMA_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    trace_id, job_id = finished.stdout.split()
    return trace_id, job_id


def by_name(spans: list[ReceivedSpan]) -> dict[str, ReceivedSpan]:
    return {span.name: span for span in spans}


def test_one_trace_leads_from_a_program_to_the_iteration_of_its_first_token(
    stack: LocalStack, collector: RunningCollector
) -> None:
    trace_id, job_id = run_producer(stack, collector)

    chat, topic = "chat niyama-tiny", "niyama.default.interactive"
    names = {"describe article", f"send {topic}", f"process {topic}", chat, "queue", "prefill"}
    names |= {"prefill chunk", "decode", "admission", "send niyama.events"}
    collector.until(
        lambda: names <= by_name(collector.of_trace(trace_id)).keys(), f"not all of {names}"
    )
    spans = by_name(collector.of_trace(trace_id))
    line = ["prefill chunk", "prefill", chat, f"process {topic}", f"send {topic}"]
    for child, parent in zip(line, [*line[1:], "describe article"], strict=True):
        assert spans[child].parent_id == spans[parent].span_id, (child, parent)
    assert [spans[name].service for name in ("describe article", f"send {topic}")] == ["shop"] * 2
    assert spans[chat].service == "niyama-worker"
    assert spans[f"process {topic}"].attributes["messaging.message.conversation_id"] == job_id
    chunks = [s for s in collector.of_trace(trace_id) if s.name == "prefill chunk"]
    assert all(int(chunk.attributes["niyama.iteration"]) > 0 for chunk in chunks)
    assert sum(int(chunk.attributes["niyama.chunk.tokens"]) for chunk in chunks) > 128


def test_a_job_over_http_is_in_the_trace_of_its_client(
    stack: LocalStack, collector: RunningCollector
) -> None:
    body = {"model": "niyama-tiny", "prompt": "Hello", "qos": "chat", "max_tokens": 4}
    headers = {"traceparent": TRACEPARENT.decode()}

    httpx.post(f"{stack.api_url}/v1/jobs", json=body, headers=headers).raise_for_status()

    trace_id = TRACEPARENT.decode().split("-")[1]
    topic = "niyama.default.interactive"
    names = {"POST /v1/jobs", f"send {topic}", f"process {topic}", "text_completion niyama-tiny"}
    collector.until(
        lambda: names <= by_name(collector.of_trace(trace_id)).keys(), f"not all of {names}"
    )
    spans = by_name(collector.of_trace(trace_id))
    assert spans["POST /v1/jobs"].service == "niyama-gateway"
    assert spans[f"send {topic}"].parent_id == spans["POST /v1/jobs"].span_id
    assert spans[f"process {topic}"].parent_id == spans[f"send {topic}"].span_id


def test_of_jobs_that_nobody_samples_the_late_ones_are_kept(
    stack: LocalStack, collector: RunningCollector
) -> None:
    body = {"model": "niyama-tiny", "prompt": "Hello", "max_tokens": 4}
    in_time = {"qos": {"ttlt_s": 3600}, "tenant": "in-time"}
    late = {"qos": {"ttft_ms": 1, "tbt_ms": 1000}, "tenant": "late"}

    for each in (in_time, late):
        httpx.post(f"{stack.api_url}/v1/jobs", json=body | each).raise_for_status()

    def of(tenant: str) -> list[ReceivedSpan]:
        return [span for span in collector.spans if span.attributes.get("niyama.tenant") == tenant]

    collector.until(lambda: bool(of("late")), "the trace of the late job")
    assert not of("in-time")
