"""Kafka record headers."""

from collections.abc import Mapping, Sequence

Headers = Sequence[tuple[str, bytes]]

# W3C trace context (https://www.w3.org/TR/trace-context/), passed from a job to its events.
TRACE_CONTEXT = ("traceparent", "tracestate")

# On dead letters. The value is the original record's, byte for byte.
REASON = "niyama-reason"
REASON_CODE = "niyama-reason-code"
SOURCE_TOPIC = "niyama-source-topic"
SOURCE_PARTITION = "niyama-source-partition"
SOURCE_OFFSET = "niyama-source-offset"
WORKER_ID = "niyama-worker-id"


def trace_context(headers: Headers | Mapping[str, str]) -> list[tuple[str, bytes]]:
    """The trace headers among `headers` (of a record, or of an HTTP request)."""
    if isinstance(headers, Mapping):
        return [(name, headers[name].encode()) for name in TRACE_CONTEXT if name in headers]
    return [(name, value) for name, value in headers if name in TRACE_CONTEXT]
