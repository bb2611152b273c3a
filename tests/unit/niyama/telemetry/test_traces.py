"""Spans reach a collector, and nothing waits for one that does not take them."""

import socket
import threading
from contextlib import closing

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from niyama.telemetry import ending, traces
from niyama.telemetry.settings import TelemetrySettings
from niyama.telemetry.telemetry import Telemetry
from tests.support.collector import collector
from tests.support.metrics import numbers


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine does not lose what is sent at the end."""
    monkeypatch.setattr(ending, "CLOSE_LIMIT_S", 60.0)
    monkeypatch.setattr(traces, "EXPORT_TIMEOUT_S", 60.0)


def telemetry(endpoint: str | None, **settings: bool) -> Telemetry:
    given = TelemetrySettings(otlp_endpoint=endpoint, **settings)
    return Telemetry(given, "niyama-test", "default", "one")


def make_span(of: Telemetry) -> None:
    provider = of.traces.provider(ALWAYS_ON)
    assert provider is not None
    provider.get_tracer("test").start_span("work").end()


@pytest.mark.usefixtures("_patient")
def test_a_collector_gets_the_spans_of_a_process_that_ends() -> None:
    with collector(signal="traces") as (endpoint, received):
        with closing(telemetry(endpoint)) as sending:
            make_span(sending)
        (batch,) = (ExportTraceServiceRequest.FromString(body) for body in received)

    [spans] = batch.resource_spans
    resource = {item.key: item.value.string_value for item in spans.resource.attributes}
    assert resource["service.name"] == "niyama-test"
    assert [span.name for scope in spans.scope_spans for span in scope.spans] == ["work"]


@pytest.mark.usefixtures("_patient")
def test_batches_that_a_collector_does_not_take_are_counted() -> None:
    with collector(status=400, signal="traces") as (endpoint, _):
        sending = telemetry(endpoint)
        make_span(sending)
        sending.close()

    failed = numbers(sending.measurements, "niyama.telemetry.failed_exports")
    assert failed["traces",] == 1


def test_spans_that_the_queue_has_no_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "QUEUE_SPANS", 5)
    monkeypatch.setattr(traces, "BATCH_SPANS", 5)
    released = threading.Event()
    monkeypatch.setattr(traces.OTLPSpanExporter, "export", lambda *_: released.wait(60))
    with collector() as (endpoint, _), closing(telemetry(endpoint)) as sending:
        provider = sending.traces.provider(ALWAYS_ON)
        assert provider is not None

        for _ in range(20):  # five may be on their way, and five wait
            provider.get_tracer("test").start_span("work").end()

        assert 10 <= sending.traces.dropped_spans <= 15
        released.set()


def test_a_collector_that_never_answers_holds_up_the_end_no_longer_than_allowed() -> None:
    joins: list[float | None] = []

    class Watched(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            joins.append(timeout)
            super().join(0.01)

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patched:
        sending = traces.Traces(telemetry(None).resource, f"http://127.0.0.1:{_port(silent)}")
        provider = sending.provider(ALWAYS_ON)
        assert provider is not None
        patched.setattr(ending.threading, "Thread", Watched)
        sending.close()

    assert joins == [ending.CLOSE_LIMIT_S]


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_without_a_collector_there_is_nothing_to_make_spans_with() -> None:
    with closing(telemetry(None)) as off:
        assert off.traces.provider(ALWAYS_ON) is None


def test_traces_that_are_switched_off_have_nothing_to_make_spans_with() -> None:
    with collector() as (endpoint, _), closing(telemetry(endpoint, traces=False)) as off:
        assert off.traces.provider(ALWAYS_ON) is None
