"""Headers that are passed on from one record to another."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.headers import MAX_KEPT_HEADERS_BYTES, bounded, trace_context

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


@given(received)
def test_kept_headers_are_bounded_and_never_null(headers: list[tuple[str, bytes | None]]) -> None:
    kept, dropped = bounded(headers)
    assert len(kept) + dropped == len(headers)
    assert all(isinstance(value, bytes) for _, value in kept)


def test_one_huge_header_does_not_push_out_the_others() -> None:
    huge = ("huge", bytes(MAX_KEPT_HEADERS_BYTES))
    assert bounded([huge, ("small", None), PARENT]) == ([("small", b""), PARENT], 1)
