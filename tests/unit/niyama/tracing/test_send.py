"""Publishing a job is a span in the producer's own program, and the record continues its trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NoOpTracerProvider,
    SpanKind,
    StatusCode,
    format_span_id,
    format_trace_id,
)

from niyama import JobRequest, KafkaSettings, Producer
from schemas.headers import Headers
from tests.support.records import TRACEPARENT
from tests.support.spans import KeptSpans

JOB = JobRequest(model="m", prompt="Hello", qos="chat")


@dataclass(frozen=True)
class Sent:
    topic: str
    partition: int = 3
    offset: int = 17


@dataclass
class FakeKafka:
    """Takes records, or fails."""

    error: Exception | None = None
    headers: list[Headers] = field(default_factory=list)

    async def send(self, topic: str, value: bytes, *, headers: Headers, **_: Any) -> Sent:
        self.headers.append(headers)
        if self.error is not None:
            raise self.error
        return Sent(topic)


def _producer(spans: KeptSpans | None, kafka: FakeKafka) -> Producer:
    producer = Producer(KafkaSettings(), tracer_provider=spans.provider if spans else None)
    producer._entered = kafka  # type: ignore[assignment]
    return producer


def _traceparent(headers: Sequence[tuple[str, bytes]]) -> str:
    [value] = [value for name, value in headers if name == "traceparent"]
    return value.decode()


async def test_a_published_job_is_a_send_span_whose_context_is_in_the_record() -> None:
    spans, kafka = KeptSpans(), FakeKafka()

    ack = await _producer(spans, kafka).publish(JOB, headers=[("other", b"1")])

    [span] = spans.all
    assert (span.name, span.kind) == (f"send {ack.topic}", SpanKind.PRODUCER)
    assert span.attributes is not None
    assert span.attributes["messaging.message.conversation_id"] == str(ack.job_id)
    assert span.attributes["messaging.destination.partition.id"] == "3"
    assert span.attributes["messaging.kafka.offset"] == 17
    context = span.get_span_context()
    assert context is not None
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    assert _traceparent(kafka.headers[0])[3:-3] == ids
    assert ("other", b"1") in kafka.headers[0]


async def test_its_parent_is_the_span_of_the_program_that_publishes() -> None:
    spans, kafka = KeptSpans(), FakeKafka()

    with spans.provider.get_tracer("program").start_as_current_span("request") as request:
        await _producer(spans, kafka).publish(JOB)

    send, _ = spans.all
    assert send.parent == request.get_span_context()


async def test_a_traceparent_that_is_given_is_the_parent_and_is_replaced() -> None:
    spans, kafka = KeptSpans(), FakeKafka()

    await _producer(spans, kafka).publish(JOB, headers=[("traceparent", TRACEPARENT)])

    [span] = spans.all
    trace_id, parent_id = TRACEPARENT.decode().split("-")[1:3]
    assert span.parent is not None
    assert format_span_id(span.parent.span_id) == parent_id
    written = _traceparent(kafka.headers[0])
    assert trace_id in written
    assert parent_id not in written


async def test_an_unsampled_job_carries_its_context_all_the_same() -> None:
    """Whoever learns how the job ended may still keep what it has of the trace."""
    spans, kafka = KeptSpans(ALWAYS_OFF), FakeKafka()

    await _producer(spans, kafka).publish(JOB)

    assert not spans.all
    assert int(_traceparent(kafka.headers[0])[-2:], 16) & 1 == 0


async def test_without_an_sdk_headers_keep_what_they_say() -> None:
    kafka = FakeKafka()
    given = [("traceparent", TRACEPARENT), ("other", b"1")]

    await _producer(None, kafka).publish(JOB, headers=given)

    [written] = kafka.headers
    assert dict(written) == dict(given)


async def test_without_an_sdk_no_span_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would say nothing, and take as long as encoding the job."""
    monkeypatch.setattr("niyama.client.sending", None)

    for provider in (None, NoOpTracerProvider()):
        producer = Producer(KafkaSettings(), tracer_provider=provider)
        producer._entered = FakeKafka()  # type: ignore[assignment]
        await producer.publish(JOB)


async def test_a_program_may_set_its_tracer_provider_after_the_producer_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans, kafka = KeptSpans(), FakeKafka()
    producer = _producer(None, kafka)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", spans.provider)

    await producer.publish(JOB)

    [span] = spans.all
    assert span.get_span_context() is not None


async def test_a_publication_that_fails_is_an_error_with_its_type() -> None:
    spans, kafka = KeptSpans(), FakeKafka(KafkaTimeoutError())

    with pytest.raises(KafkaTimeoutError):
        await _producer(spans, kafka).publish(JOB)

    [span] = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "KafkaTimeoutError"
