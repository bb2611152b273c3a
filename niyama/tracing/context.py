"""W3C trace context in Kafka headers: https://www.w3.org/TR/trace-context/."""

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.headers import Headers, ReceivedHeaders, trace_context, trace_parent

_W3C = TraceContextTextMapPropagator()
"""Whatever propagators a program has configured: this is what the records of Niyama carry."""


def parent_in(headers: ReceivedHeaders) -> Context | None:
    """The context in a record's headers, the first if there are more; None where none is valid."""
    if trace_parent(headers) is None:
        return None
    first = {name: value.decode() for name, value in reversed(trace_context(headers))}
    return _W3C.extract(first, Context())


def span_context_in(headers: ReceivedHeaders) -> SpanContext | None:
    """The span that wrote a record's headers; None where they name none that is valid."""
    found = trace_parent(headers)
    if found is None:
        return None
    return SpanContext(found.trace_id, found.span_id, True, TraceFlags(found.flags))


def with_context_of(span: Span, headers: Headers) -> Headers:
    """`headers` with the context of `span` in place of the one that they have.

    Unchanged when the span has none: without OpenTelemetry's SDK, and without a trace.
    """
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    if not carrier:
        return headers
    others = [(name, value) for name, value in headers if name not in _W3C.fields]
    return [*others, *((name, value.encode()) for name, value in carrier.items())]
