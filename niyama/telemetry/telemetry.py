"""The telemetry of one process: set up at its start, closed at its end."""

from niyama.telemetry.measurements import Measurements
from niyama.telemetry.metrics import Metrics
from niyama.telemetry.resource import resource_of
from niyama.telemetry.settings import TelemetrySettings


class Telemetry:
    """What this process tells of itself.

    Whatever becomes of the collector, nothing fails or waits because of it, except `close`, which
    has a bound.
    """

    def __init__(
        self, settings: TelemetrySettings, service: str, pool: str, instance: str | None = None
    ) -> None:
        """See `resource_of` for `service`, `pool` and `instance`."""
        self.resource = resource_of(service, pool, instance)
        self.measurements = Measurements(
            enabled=settings.metrics, outside_values=settings.metric_tenants
        )
        self.metrics = Metrics(self.measurements, self.resource, settings.otlp_url("metrics"))

    def close(self) -> None:
        """Send what was measured last, for at most CLOSE_LIMIT_S. Blocks."""
        self.metrics.close()
