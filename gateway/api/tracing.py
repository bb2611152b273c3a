"""HTTP requests as spans: the parents of the `send` spans of the jobs that they submit."""

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider

NOT_TRACED = ("/v1/jobs/.+", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")
"""What is asked again and again, and begins no job. The instrumentation takes 200 µs of a request
that it does not exclude, as long as the request itself where that only reads."""


def trace_requests(app: FastAPI, provider: TracerProvider) -> None:
    """Make a span of each request to `app` but those that are NOT_TRACED."""
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=",".join(NOT_TRACED),
        exclude_spans=["receive", "send"],
    )
