"""The `send` span of a job: the first of its trace, in the program that publishes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
    get_tracer_provider,
)
from opentelemetry.util.types import AttributeValue

from niyama.tracing import names
from niyama.tracing.context import parent_in
from schemas.headers import Headers


def makes_spans(provider: TracerProvider | None = None) -> bool:
    """Whether `provider` does, by default the program's own, which it may yet set.

    Without OpenTelemetry's SDK a span says nothing, and would be a tenth of what a job costs its
    producer.
    """
    provider = provider or get_tracer_provider()
    return not isinstance(provider, (ProxyTracerProvider, NoOpTracerProvider))


@contextmanager
def sending(
    tracer: Tracer, topic: str, job_id: UUID, size_bytes: int, headers: Headers
) -> Iterator[Span]:
    """The span of publishing one job; it fails with what is raised within.

    Its parent is the context in `headers` or, where they have none, the program's current span.
    """
    with tracer.start_as_current_span(
        f"{names.SEND} {topic}", parent_in(headers), kind=SpanKind.PRODUCER
    ) as span:
        if not span.is_recording():
            yield span
            return
        span.set_attributes(send_attributes(topic, job_id))
        span.set_attribute(names.MESSAGING_MESSAGE_BODY_SIZE, size_bytes)
        try:
            yield span
        except BaseException as error:
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
            raise


def send_attributes(topic: str, job_id: UUID) -> dict[str, AttributeValue]:
    """What a span says of anything that is sent about a job."""
    return {
        names.MESSAGING_SYSTEM: names.KAFKA,
        names.MESSAGING_OPERATION_NAME: names.SEND,
        names.MESSAGING_OPERATION_TYPE: names.SEND,
        names.MESSAGING_DESTINATION_NAME: topic,
        names.MESSAGING_MESSAGE_CONVERSATION_ID: str(job_id),
    }


def sent(span: Span, partition: int, offset: int) -> None:
    """Kafka has acknowledged the job."""
    if span.is_recording():
        span.set_attribute(names.MESSAGING_DESTINATION_PARTITION_ID, str(partition))
        span.set_attribute(names.MESSAGING_KAFKA_OFFSET, offset)
