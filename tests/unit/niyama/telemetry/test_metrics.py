"""Metrics as Prometheus reads them and as a collector gets them, there or not."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client import Counter

from niyama.errors import ConfigurationError
from niyama.telemetry import ending
from niyama.telemetry.instrument import Attribute, Instrument, Kind
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.settings import TelemetrySettings
from niyama.telemetry.telemetry import Telemetry
from tests.support.collector import collector
from tests.support.metrics import metrics, shown

WAITS = Instrument(
    "niyama.waits", Kind.HISTOGRAM, "s", "Waits", (Attribute("a.b", ""),), buckets=(0.1, 1.0)
)
JOBS = Instrument("niyama.jobs", Kind.COUNTER, "{job}", "Jobs")


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine does not lose what is sent at the end."""
    monkeypatch.setattr(ending, "CLOSE_LIMIT_S", 60.0)


def telemetry(endpoint: str | None) -> Telemetry:
    return Telemetry(TelemetrySettings(otlp_endpoint=endpoint), "niyama-test", "default", "one")


def test_prometheus_reads_a_histogram_under_its_own_names() -> None:
    measurements = Measurements()
    measurements.histogram(WAITS).record(0.5, "x")
    text, content_type = metrics(measurements).text(None)
    assert content_type.startswith("text/plain")
    samples = shown(text)
    assert samples["niyama_waits_seconds_count"] == {frozenset({("a_b", "x")}): 1}
    assert samples["niyama_waits_seconds_sum"] == {frozenset({("a_b", "x")}): 0.5}
    assert samples["niyama_waits_seconds_bucket"][frozenset({("a_b", "x"), ("le", "0.1")})] == 0


def test_every_scrape_shows_the_totals_once() -> None:
    measurements = Measurements()
    measurements.counter(JOBS).add(2)
    exposed = metrics(measurements)
    first, second = (shown(exposed.text(None)[0]) for _ in range(2))
    assert first["niyama_jobs_total"] == second["niyama_jobs_total"] == {frozenset(): 2}


async def test_however_many_ask_at_once_one_rendering_is_made() -> None:
    measurements, go_on, begun = Measurements(), threading.Event(), 0

    def current() -> list[tuple[float, tuple[str, ...]]]:
        nonlocal begun
        begun += 1
        assert go_on.wait(60)
        return [(1.0, ())]

    measurements.observe(JOBS, current)
    exposed = metrics(measurements)
    asking = [asyncio.create_task(exposed.text_soon(None)) for _ in range(100)]
    await asyncio.sleep(0)
    asking.pop().cancel()  # one leaves, and the others get theirs
    go_on.set()
    texts = await asyncio.gather(*asking)
    assert begun == 1
    assert len(set(texts)) == 1
    assert exposed.text(None) == texts[0]
    assert begun == 2  # what is asked for later is new


def test_a_librarys_own_instruments_are_beside_ours() -> None:
    exposed = metrics()
    exposed.provider.get_meter("library").create_counter("library.calls").add(3)
    assert shown(exposed.text(None)[0])["library_calls_total"] == {frozenset(): 3}


def test_a_counter_of_prometheus_own_client_has_one_series() -> None:
    exposed = metrics()
    Counter("library_calls", "Calls", registry=exposed.registry).inc()
    names = [name for name in shown(exposed.text(None)[0]) if name.startswith("library")]
    assert names == ["library_calls_total"]


@pytest.mark.usefixtures("_patient")
def test_a_collector_gets_what_was_measured_last_and_where_it_comes_from() -> None:
    with collector() as (endpoint, received):
        with closing(telemetry(endpoint)) as sending:
            sending.measurements.counter(JOBS).add(5)
        (batch,) = (ExportMetricsServiceRequest.FromString(body) for body in received)
    resource = {
        item.key: item.value.string_value for item in batch.resource_metrics[0].resource.attributes
    }
    assert resource["service.name"] == "niyama-test"
    assert resource["service.instance.id"] == "one"
    sums = {
        metric.name: metric.sum.data_points[0].as_int
        for scope in batch.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert sums["niyama.jobs"] == 5


@pytest.mark.usefixtures("_patient")
def test_what_a_collector_does_not_take_is_counted() -> None:
    with collector(status=400) as (endpoint, _):
        sending = telemetry(endpoint)
        sending.close()
    assert sending.metrics.failed_exports == 1


def test_a_collector_that_never_answers_holds_up_the_end_no_longer_than_allowed() -> None:
    joins: list[float | None] = []

    class Watched(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            joins.append(timeout)
            super().join(0.01)

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patched:
        patched.setattr("niyama.telemetry.ending.threading.Thread", Watched)
        telemetry(f"http://127.0.0.1:{silent.getsockname()[1]}").close()
    assert ending.CLOSE_LIMIT_S in joins


def test_an_endpoint_that_is_no_url_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"--otlp-endpoint .*http://"):
        TelemetrySettings.from_command_line(["--otlp-endpoint", "collector:4317"], "x")
