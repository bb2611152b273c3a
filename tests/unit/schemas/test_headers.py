"""Headers that are passed on from one record to another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.headers import (
    MAX_KEPT_HEADERS_BYTES,
    TraceParent,
    bounded,
    trace_context,
    trace_parent,
)

PARENT = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
STATE = ("tracestate", b"vendor=value,other=1")

received = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate"]) | st.text(max_size=20),
        st.none() | st.binary(max_size=600) | st.just(PARENT[1]),
    ),
    max_size=8,
)


def test_a_well_formed_trace_context_is_passed_on() -> None:
    assert trace_context([("other", b"1"), PARENT, STATE]) == [PARENT, STATE]
    assert trace_context({"traceparent": PARENT[1].decode(), "host": "h"}) == [PARENT]


@given(received)
def test_nothing_else_is(headers: list[tuple[str, bytes | None]]) -> None:
    for name, value in trace_context(headers):
        assert name in ("traceparent", "tracestate")
        assert 0 < len(value) <= 512
        assert all(0x20 <= byte <= 0x7E for byte in value)


def test_a_null_or_broken_trace_header_is_left_out() -> None:
    assert trace_context([("traceparent", None), ("tracestate", b"a=\x00"), STATE]) == [STATE]


@pytest.mark.parametrize(
    "value",
    [
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
    ],
)
def test_an_invalid_traceparent_is_none(value: bytes) -> None:
    headers = [("traceparent", value)]
    assert trace_context(headers) == []
    assert trace_parent(headers) is None
    assert trace_parent([*headers, PARENT]) == TraceParent(
        0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1
    )


@given(st.from_regex(rb"[0f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True))
def test_a_traceparent_is_read_as_opentelemetry_reads_it(value: bytes) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": value.decode()})
    theirs = get_current_span(context).get_span_context()
    ours = trace_parent([("traceparent", value)])
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert ours == (theirs.trace_id, theirs.span_id, theirs.trace_flags)


@given(received)
def test_kept_headers_are_bounded_and_never_null(headers: list[tuple[str, bytes | None]]) -> None:
    kept, dropped = bounded(headers)
    assert len(kept) + dropped == len(headers)
    assert all(isinstance(value, bytes) for _, value in kept)


def test_one_huge_header_does_not_push_out_the_others() -> None:
    huge = ("huge", bytes(MAX_KEPT_HEADERS_BYTES))
    assert bounded([huge, ("small", None), PARENT]) == ([("small", b""), PARENT], 1)
