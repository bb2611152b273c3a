"""The telemetry of one process: set up at its start, closed at its end."""

import logging
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from niyama.telemetry.instruments.shared import DROPPED_SPANS, FAILED_EXPORTS
from niyama.telemetry.measurements import Measurements, Observed
from niyama.telemetry.metrics import Metrics
from niyama.telemetry.otel_environment import ineffective, refused_as_configuration
from niyama.telemetry.resource import resource_of
from niyama.telemetry.settings import TelemetrySettings
from niyama.telemetry.traces import Traces

log = logging.getLogger(__name__)


class Telemetry:
    """What this process tells of itself.

    Whatever becomes of the collector, nothing fails or waits because of it, except `close`, which
    has a bound.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        service: str,
        pool: str,
        instance: str | None = None,
        tenants: Collection[str] = (),
    ) -> None:
        """See `resource_of` for `service`, `pool` and `instance`.

        `tenants` are measured, however many others there are. Raises ConfigurationError for what
        OpenTelemetry's variables must not say.
        """
        self.resource = resource_of(service, pool, instance)
        self.measurements = Measurements(
            enabled=settings.measures,
            outside_values=settings.metric_tenants,
            named_values=tenants,
        )
        with refused_as_configuration():
            self.metrics = Metrics(self.measurements, self.resource, settings.otlp_url("metrics"))
            self.traces = Traces(self.resource, settings.otlp_url("traces"))
        if names := ineffective(os.environ):
            log.warning("without effect here, see docs/traces.md: %s", ", ".join(names))
        self.measurements.observe(FAILED_EXPORTS, self._failed_exports)
        self.measurements.observe(DROPPED_SPANS, lambda: [(self.traces.dropped_spans, ())])

    def close(self) -> None:
        """Send what was measured last, for at most CLOSE_LIMIT_S. Blocks."""
        with ThreadPoolExecutor(2) as together:
            together.submit(self.traces.close)
            together.submit(self.metrics.close)

    def _failed_exports(self) -> Observed:
        return [
            (self.metrics.failed_exports, ("metrics",)),
            (self.traces.failed_exports, ("traces",)),
        ]
