"""Settings of a command that measures itself."""

import os
from typing import Self

from pydantic import Field, field_validator, model_validator

from niyama.command_settings import CommandSettings
from niyama.telemetry import otel_environment


class TelemetrySettings(CommandSettings):
    """Metrics and traces. Nothing is sent anywhere without an endpoint."""

    otlp_endpoint: str | None = Field(
        default=None,
        description="An OpenTelemetry collector (OTLP over HTTP) to send metrics and traces to, "
        "such as http://localhost:4318; OpenTelemetry's own variables set the rest: "
        "OTEL_EXPORTER_OTLP_HEADERS, OTEL_METRIC_EXPORT_INTERVAL, OTEL_RESOURCE_ATTRIBUTES, ... "
        "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    metrics: bool = Field(
        default=True, description="Measure nothing: /metrics then has only what libraries measure"
    )
    metric_tenants: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Tenants that have series of their own in the metrics of this process, beside "
        "'default' and those of --tenant-weights; later ones share those of the tenant '_other' "
        "until one of the first has had no job for an hour",
    )

    traces: bool = Field(default=True, description="Trace nothing, although there is a collector")
    trace_sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of traces that are kept whatever becomes of the job, of those that "
        "begin here; workers keep what is late, relegated, retried, failed or expired besides",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _base(cls, url: str | None) -> str | None:
        return None if url is None else otel_environment.base_url(url)

    @model_validator(mode="after")
    def _environment(self) -> Self:
        for signal in otel_environment.SIGNALS:
            self.otlp_url(signal)
        return self

    def otlp_url(self, signal: str) -> str | None:
        """Where to post "metrics" or "traces"; None when they are not sent."""
        is_on = self.metrics if signal == "metrics" else self.traces
        return otel_environment.otlp_url(signal, self.otlp_endpoint, os.environ) if is_on else None

    @property
    def measures(self) -> bool:
        """Whether anything is measured."""
        return self.metrics and not otel_environment.is_disabled(os.environ)
