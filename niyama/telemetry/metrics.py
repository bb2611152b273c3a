"""The ways that measurements leave a process: read as text by Prometheus, sent to a collector."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
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

from niyama.telemetry.ending import CLOSE_LIMIT_S, close_in_time
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.resource import POOL

SCOPE = InstrumentationScope("niyama")

_ALWAYS = "niyama.always"
"""A gauge that is always there, and never shown."""

WithOurs = Callable[[MetricsData], MetricsData]


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
        self._renderer = ThreadPoolExecutor(1, "metrics")  # the reader mixes up two at a time
        self._renderings: dict[str, Future[bytes]] = {}
        """In progress, by content type."""
        self._lock = threading.Lock()
        self._exporter: MetricExporter | None = None
        # Libraries' own counters would each have a second series, with the time they were made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        readers = self._readers(otlp_url)
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        # The SDK hands something to its readers only where it has an instrument with a value.
        self.provider.get_meter(_ALWAYS).create_observable_gauge(
            _ALWAYS, [lambda _: [Observation(1)]]
        )

    def text(self, accept: str | None) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type. `accept`: the header of the request.

        Takes some 10 ms for a thousand series, and is safe in any thread.
        """
        rendering, content_type = self._rendering(accept)
        return rendering.result(), content_type

    async def text_soon(self, accept: str | None) -> tuple[bytes, str]:
        """The same for an event loop, which goes on meanwhile."""
        rendering, content_type = self._rendering(accept)
        # Shielded: others wait for it, too.
        return await asyncio.shield(asyncio.wrap_future(rendering)), content_type

    def _rendering(self, accept: str | None) -> tuple[Future[bytes], str]:
        """One is made at a time, however many ask: who comes meanwhile gets the same."""
        encode, content_type = choose_encoder(accept or "")

        def render() -> bytes:
            try:
                return encode(self.registry)
            finally:
                with self._lock:
                    del self._renderings[content_type]

        with self._lock:
            if content_type not in self._renderings:
                self._renderings[content_type] = self._renderer.submit(render)
            return self._renderings[content_type], content_type

    def close(self) -> None:
        """Send what was measured last, for at most CLOSE_LIMIT_S."""
        close_in_time(lambda: self.provider.shutdown(CLOSE_LIMIT_S * 1000), self._give_up)

    def _give_up(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()

    def _readers(self, otlp_url: str | None) -> list[MetricReader]:
        text = _TextReader(
            self._with_ours,
            scope_info_enabled=False,
            resource_attribute_filter=lambda name: name == POOL,
            registry=self.registry,
        )
        readers: list[MetricReader] = [text]
        if otlp_url is not None and self.measurements.enabled:
            self._exporter = _CountingExporter(self._export_failed, endpoint=otlp_url)
            readers.append(_SendingReader(self._with_ours, self._exporter))
        return readers

    def _with_ours(self, libraries: MetricsData) -> MetricsData:
        """What the SDK has collected of libraries' instruments, and our measurements.

        They take this way because the SDK has no producers of metrics that were added up elsewhere:
        https://github.com/open-telemetry/opentelemetry-python/issues/4768.
        """
        ours = ScopeMetrics(SCOPE, self.measurements.collect(), schema_url="")
        scopes = [
            scope
            for resource in libraries.resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name != _ALWAYS
        ]
        return MetricsData([ResourceMetrics(self._resource, [*scopes, ours], schema_url="")])

    def _export_failed(self) -> None:
        self.failed_exports += 1


class _TextReader(PrometheusMetricReader):
    """Shows our measurements beside what the SDK has collected."""

    def __init__(self, with_ours: WithOurs, **options: Any) -> None:
        super().__init__(**options)
        self._with_ours = with_ours

    def _receive_metrics(self, metrics_data: MetricsData, *arguments: Any, **options: Any) -> None:
        super()._receive_metrics(self._with_ours(metrics_data), *arguments, **options)


class _SendingReader(PeriodicExportingMetricReader):
    """Sends our measurements beside what the SDK has collected."""

    def __init__(self, with_ours: WithOurs, exporter: MetricExporter) -> None:
        self._with_ours = with_ours  # before a thread begins that calls it
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, *arguments: Any, **options: Any) -> None:
        super()._receive_metrics(self._with_ours(metrics_data), *arguments, **options)


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
