"""What this project relies on in OpenTelemetry's SDK. One that is gone fails here."""

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)


class Receiving(InMemoryMetricReader):
    """Notes what it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[MetricsData] = []

    def _receive_metrics(self, metrics_data: MetricsData, *_: object, **__: object) -> None:
        self.received.append(metrics_data)


def test_a_reader_may_override_what_receives_the_metrics() -> None:
    assert "_receive_metrics" in (MetricReader.__doc__ or "")
    for reader in (PrometheusMetricReader, PeriodicExportingMetricReader):
        assert "_receive_metrics" in vars(reader)


def test_a_reader_receives_something_once_there_is_a_gauge_and_nothing_before() -> None:
    reader = Receiving()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    reader.collect()
    assert reader.received == []

    provider.get_meter("m").create_observable_gauge("g", [lambda _: [Observation(1)]])
    reader.collect()

    [received] = reader.received
    assert received.resource_metrics[0].scope_metrics[0].scope.name == "m"
