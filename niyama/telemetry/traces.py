"""Spans on their way to a collector: from a bounded queue, by a thread that nothing waits for."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from niyama.telemetry.ending import close_in_time
from niyama.telemetry.otel_environment import refused_as_configuration

QUEUE_SPANS = 8192
"""Wait for the collector at most; then the oldest are dropped, and the SDK logs it."""
BATCH_SPANS = 512
EXPORT_TIMEOUT_S = 5.0
"""For one batch and its retries; then it is dropped."""


class Traces:
    """Where the spans of this process go."""

    def __init__(self, resource: Resource, otlp_url: str | None = None) -> None:
        """They are sent to `otlp_url`; None: this process does not trace."""
        self.resource = resource
        self.failed_exports = 0
        """Batches that the collector did not take, which are lost."""
        self.dropped_spans = 0
        """There was no room for them in the queue."""
        self.processor: BatchSpanProcessor | None = None
        """Takes spans that have ended; None: they are not to be made."""
        if otlp_url is not None:
            self.processor = _CountingProcessor(self, _CountingExporter(self, otlp_url))

    def provider(self, sampler: Sampler) -> TracerProvider | None:
        """For spans by the SDK's tracers; None: this process does not trace.

        Raises ConfigurationError for what OpenTelemetry's variables must not say.
        """
        if self.processor is None:
            return None
        with refused_as_configuration():
            provider = TracerProvider(sampler, self.resource, shutdown_on_exit=False)
        provider.add_span_processor(self.processor)
        return provider

    def close(self) -> None:
        """Send the last spans, for at most CLOSE_LIMIT_S."""
        if self.processor is None:
            return
        close_in_time(self.processor.shutdown, self.processor.span_exporter.shutdown)


class _CountingExporter(OTLPSpanExporter):
    """Counts every export that failed; the SDK only logs it."""

    def __init__(self, traces: Traces, endpoint: str) -> None:
        super().__init__(endpoint, timeout=EXPORT_TIMEOUT_S)
        self.taken = 0
        """Spans that have left the queue."""
        self._traces = traces

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._traces.failed_exports += 1
        return result


class _CountingProcessor(BatchSpanProcessor):
    """Counts what its queue has no room for; the SDK only logs it."""

    def __init__(self, traces: Traces, exporter: _CountingExporter) -> None:
        super().__init__(exporter, max_queue_size=QUEUE_SPANS, max_export_batch_size=BATCH_SPANS)
        self._traces = traces
        self._exporter = exporter
        self._queued = 0
        """Put into the queue so far, without those that others were dropped for."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._queued - self._exporter.taken >= QUEUE_SPANS:
            self._traces.dropped_spans += 1
        else:
            self._queued += 1
        super().on_end(span)
