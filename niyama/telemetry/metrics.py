"""The ways that measurements leave a process: read as text by Prometheus, sent to a collector."""

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from niyama.telemetry.measurements import Measurements
from niyama.telemetry.resource import POOL

CLOSE_LIMIT_S = 2.0
"""How long the last measurements may take to be sent when a process ends."""
SCOPE = InstrumentationScope("niyama")

Collect = Callable[..., MetricsData | None]
"""The SDK's: takes a reader and `timeout_millis`."""


class Metrics:
    """Measurements of this process, and those that libraries make with `provider`."""

    def __init__(
        self, measurements: Measurements, resource: Resource, otlp_url: str | None = None
    ) -> None:
        """They are sent to `otlp_url`, from a thread of its own that nothing waits for."""
        self.measurements = measurements
        self.registry = CollectorRegistry()
        """What /metrics shows; collectors of libraries can be added."""
        self.failed_exports = 0
        """Measurements that the collector did not take. They are cumulative: the next ones make
        up for them."""
        self._resource = resource
        self._rendering = threading.Lock()
        # Libraries' own counters would each have a second series, with the time they were made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        readers = self._readers(otlp_url)
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        for reader in readers:
            # The SDK has no way of its own to collect what was added up elsewhere.
            reader._set_collect_callback(self._with_measurements(reader._collect))  # type: ignore[arg-type]

    def text(self, accept: str | None) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type. `accept`: the header of the request.

        Takes some 10 ms for a thousand series, and is safe in any thread.
        """
        encode, content_type = choose_encoder(accept or "")
        with self._rendering:  # the reader mixes up two at a time
            return encode(self.registry), content_type

    def close(self) -> None:
        """Send what was measured last, for at most CLOSE_LIMIT_S."""
        closing = threading.Thread(
            target=self.provider.shutdown, args=(CLOSE_LIMIT_S * 1000,), daemon=True
        )
        closing.start()
        closing.join(CLOSE_LIMIT_S)

    def _readers(self, otlp_url: str | None) -> list[MetricReader]:
        text = PrometheusMetricReader(
            scope_info_enabled=False,
            resource_attribute_filter=lambda name: name == POOL,
            registry=self.registry,
        )
        readers: list[MetricReader] = [text]
        if otlp_url is not None and self.measurements.enabled:
            exporter = _CountingExporter(self._export_failed, endpoint=otlp_url)
            readers.append(PeriodicExportingMetricReader(exporter))
        return readers

    def _with_measurements(self, collect: Collect) -> Collect:
        """What `collect` finds of libraries' instruments, and our measurements."""

        def both(reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData:
            libraries = collect(reader, timeout_millis=timeout_millis)
            ours = ScopeMetrics(SCOPE, self.measurements.collect(), schema_url="")
            scopes = [
                scope
                for resource in (libraries.resource_metrics if libraries else ())
                for scope in resource.scope_metrics
            ]
            return MetricsData([ResourceMetrics(self._resource, [*scopes, ours], schema_url="")])

        return both

    def _export_failed(self) -> None:
        self.failed_exports += 1


class _CountingExporter(OTLPMetricExporter):
    """Tells of every export that failed; the SDK only logs it."""

    def __init__(self, failed: Callable[[], None], endpoint: str) -> None:
        super().__init__(endpoint=endpoint)
        self._failed = failed

    def export(self, *arguments: Any, **options: Any) -> MetricExportResult:
        result = super().export(*arguments, **options)
        if result is not MetricExportResult.SUCCESS:
            self._failed()
        return result
