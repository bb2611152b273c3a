"""Kafka record headers.

The producer of a job writes its headers, so nothing here trusts them: a value may be null, huge, or
any bytes. What is passed on from one record to another goes through a function of this file.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]
"""Headers that may be written to a record."""
ReceivedHeaders = Sequence[tuple[str, bytes | None]]
"""Headers as Kafka delivers them: a value may be null."""

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
"""Ids of zeros, and version ff, are invalid."""
_TRACE_CONTEXT = {
    "traceparent": _TRACEPARENT,
    "tracestate": re.compile(rb"[ -~]{1,512}"),
}
"""W3C trace context (https://www.w3.org/TR/trace-context/), passed from a job to its events."""
MAX_KEPT_HEADERS_BYTES = 16 * 1024
"""Of a record's own headers, a dead letter keeps this much: names and values."""

# On dead letters. The value is the original record's, byte for byte.
REASON = "niyama-reason"
REASON_CODE = "niyama-reason-code"
SOURCE_TOPIC = "niyama-source-topic"
SOURCE_PARTITION = "niyama-source-partition"
SOURCE_OFFSET = "niyama-source-offset"
WORKER_ID = "niyama-worker-id"
DROPPED_HEADERS = "niyama-dropped-headers"


def trace_context(headers: ReceivedHeaders | Mapping[str, str]) -> list[tuple[str, bytes]]:
    """The valid trace headers among `headers` (of a record, or of an HTTP request)."""
    if isinstance(headers, Mapping):
        found: Iterable[tuple[str, bytes | None]] = (
            (name, headers[name].encode()) for name in _TRACE_CONTEXT if name in headers
        )
    else:
        found = headers
    return [
        (name, value)
        for name, value in found
        if name in _TRACE_CONTEXT and value and _TRACE_CONTEXT[name].fullmatch(value)
    ]


class TraceParent(NamedTuple):
    """A span of somebody else: what is done here belongs to its trace."""

    trace_id: int
    span_id: int
    flags: int


def trace_parent(headers: ReceivedHeaders) -> TraceParent | None:
    """The first valid `traceparent` among a record's `headers`, if any.

    OpenTelemetry's propagator says the same in ten times the time.
    """
    for name, value in headers:
        if name == "traceparent" and value and (found := _TRACEPARENT.fullmatch(value)):
            trace_id, span_id, flags = found.groups()
            return TraceParent(int(trace_id, 16), int(span_id, 16), int(flags, 16))
    return None


def bounded(headers: ReceivedHeaders) -> tuple[list[tuple[str, bytes]], int]:
    """Headers that fit into MAX_KEPT_HEADERS_BYTES, in their order, and how many do not.

    A null value becomes an empty one.
    """
    kept: list[tuple[str, bytes]] = []
    left = MAX_KEPT_HEADERS_BYTES
    for name, value in headers:
        size = len(name.encode()) + len(value or b"")
        if size <= left:
            left -= size
            kept.append((name, value or b""))
    return kept, len(headers) - len(kept)
