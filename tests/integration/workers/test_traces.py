"""What a worker on the real Kafka sends to a collector."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from niyama.telemetry import traces
from schemas import EventType
from tests.support.collector import collector
from tests.support.records import TRACEPARENT, job_bytes
from tests.support.workers import PATIENCE_S, Harness

TRACE_ID = bytes.fromhex(TRACEPARENT.decode().split("-")[1])
UNSAMPLED = ("traceparent", TRACEPARENT[:-1] + b"0")


@pytest.fixture(autouse=True)
def _prompt_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setattr(traces, "EXPORT_TIMEOUT_S", PATIENCE_S)


def spans_in(received: list[bytes]) -> list[Span]:
    return [
        span
        for body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def processing(received: list[bytes]) -> list[Span]:
    return [span for span in spans_in(received) if span.name.startswith("process")]


async def test_of_unsampled_jobs_the_late_one_is_sent_in_the_trace_of_its_record(
    harness: Harness,
) -> None:
    with collector(signal="traces") as (endpoint, received):
        await harness.worker(otlp_endpoint=endpoint, trace_sample_ratio=0, metrics=False)
        in_time = job_bytes(model="null", qos={"ttlt_s": 3600}, max_tokens=2)
        late = job_bytes(model="null", qos={"ttlt_ms": 1}, max_tokens=2)
        for value in (in_time, late):
            await harness.send(value, headers=[UNSAMPLED])

        def ended() -> int:
            return sum(event.type is EventType.COMPLETED for event in harness.events)

        await harness.until(lambda: ended() == 2, "the end of both jobs")
        topics = harness.settings.topics
        kafka = [f"process {topics.interactive.name}", f"send {topics.events.name}"]
        generation = ["admission", "decode", "prefill", "queue", "text_completion null"]
        wanted = [*kafka, *generation]  # which may come in several batches
        await harness.until(lambda: len(spans_in(received)) >= len(wanted), "its trace")

    found = spans_in(received)
    assert {span.trace_id for span in found} == {TRACE_ID}
    assert sorted(span.name for span in found) == sorted(wanted)


async def test_a_refused_record_is_sent_as_failed(harness: Harness) -> None:
    with collector(signal="traces") as (endpoint, received):
        await harness.worker(otlp_endpoint=endpoint, trace_sample_ratio=0, metrics=False)
        await harness.send(b"no job", headers=[UNSAMPLED])
        await harness.until(lambda: bool(processing(received)), "its trace")

    [process] = processing(received)
    said = {each.key: each.value.string_value for each in process.attributes}
    assert said["error.type"] == "invalid_json"
    assert process.trace_id == TRACE_ID
