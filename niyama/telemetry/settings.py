"""Settings of a command that measures itself."""

import os
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from niyama.command_settings import CommandSettings


class TelemetrySettings(CommandSettings):
    """Metrics and traces. Nothing is sent anywhere without an endpoint."""

    otlp_endpoint: str | None = Field(
        default_factory=lambda: os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
        description="An OpenTelemetry collector (OTLP over HTTP) to send metrics and traces to, "
        "such as http://localhost:4318; OpenTelemetry's own variables set the rest: "
        "OTEL_EXPORTER_OTLP_HEADERS, OTEL_METRIC_EXPORT_INTERVAL, OTEL_RESOURCE_ATTRIBUTES, ... "
        "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    metrics: bool = Field(
        default=True, description="Whether to measure; --no-metrics: /metrics has nothing of ours"
    )
    metric_tenants: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Tenants that have series of their own in the metrics of this process, beside "
        "'default' and those of --tenant-weights; later ones share those of the tenant '_other' "
        "until one of the first has had no job for an hour",
    )

    traces: bool = Field(
        default=True, description="Whether to trace, if there is a collector (--no-traces)"
    )
    trace_sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of traces that are kept whatever becomes of the job, of those that "
        "begin here; workers keep what is late, relegated, retried, failed or expired besides",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("must be a URL that begins with http:// or https://")
        return url

    def otlp_url(self, signal: str) -> str | None:
        """Where to post "metrics" or "traces"; None when they are not sent."""
        if self.otlp_endpoint is None:
            return None
        return f"{self.otlp_endpoint.rstrip('/')}/v1/{signal}"
